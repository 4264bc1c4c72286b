"""What a clear error is: raised as ValueError, and naming all that it should."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest


def assert_refused(make: Callable[[], Any], words: Sequence[str]) -> None:
    """`make` raises a ValueError whose text holds every one of the words."""
    with pytest.raises(ValueError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
