"""The device that a user has chosen."""

from typing import Any

import jax


def chosen_device() -> Any:
    """The device that `jax.default_device` names in this thread, or None."""
    return jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
