from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from nrjax import (
    BiaxialAnisotropy,
    BrillouinBath,
    DzyaloshinskiiMoriya,
    LayeredMagnet,
    UniaxialAnisotropy,
    hanai2025_bilayer,
    illuminated_bilayer,
)
from tests.refusal import assert_refused
from tests.systems.bilayer import Bilayer

M = np.array([[0.3, -0.2, 0.6], [-0.1, 0.45, 0.2]])


def three_layers(**changes):
    rng = np.random.default_rng(3)
    arguments: dict[str, Any] = dict(
        exchange=rng.normal(size=(3, 3)) * 5,
        damping=[0.1, 0.02, 0.05],
        sd_coupling=[-10.0, -8.0, 4.0],
        loss_rate=[0.0, 0.05, 0.02],
        filling=[1.0, 0.9, 1.1],
        temperature=[9.0, 8.0, 7.0],
        mediated_exchange=rng.normal(size=(3, 3)) * 3,
        field=rng.normal(size=(3, 3)),
        anisotropy=UniaxialAnisotropy([0.5, -0.3, 0.2], (1.0, 2.0, -1.0)),
    )
    return LayeredMagnet(**(arguments | changes))


def naive_velocity(magnet, m):
    """The class docstring, term by term, in plain NumPy."""
    j, jm = np.asarray(magnet.exchange), np.asarray(magnet.light_exchange())
    result = np.zeros_like(m)
    for a in range(len(m)):
        h = j[a] @ m
        if magnet.field is not None:
            h = h + np.asarray(magnet.field)[a]
        if magnet.anisotropy is not None:
            e = np.asarray(magnet.anisotropy.axis)
            h = h + float(magnet.anisotropy.strength[a]) * (m[a] @ e) * e
        size = np.linalg.norm(h)
        phi = size / np.tanh(size / float(magnet.temperature[a]))
        result[a] += float(magnet.gyro) * np.cross(m[a], h) + 2 * float(magnet.damping[a]) * (h - phi * m[a])
        gamma, g, n = (float(x[a]) for x in (magnet.loss_rate, magnet.sd_coupling, magnet.filling))
        result[a] += gamma * (2 / g * (jm[a] @ m) - n * m[a])
    return result


def test_vector_field_is_the_equation():
    magnet = three_layers()
    m = np.random.default_rng(1).normal(size=(3, 3)) * 0.5
    np.testing.assert_allclose(magnet.vector_field(0.0, jnp.asarray(m)), naive_velocity(magnet, m), rtol=1e-12)


def test_reference_bilayer_is_the_independent_one():
    magnet = hanai2025_bilayer(0.05, 6.0)
    np.testing.assert_allclose(
        magnet.vector_field(0.0, jnp.asarray(M)), Bilayer().with_light(0.05, 6.0).velocity(M), rtol=1e-12
    )


def test_scalar_layout_is_the_same_field():
    magnet = three_layers()
    m = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3)))
    scalars = magnet.layer_vector_fields([(row[0], row[1], row[2]) for row in m])
    np.testing.assert_allclose(jnp.stack([jnp.stack(row) for row in scalars]), magnet.vector_field(0.0, m), rtol=1e-13)


@pytest.mark.parametrize("options", [{}, {"field": None, "anisotropy": None}])
def test_scalar_layout_has_the_same_sizes(options):
    magnet = three_layers(**options)
    m = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3)))
    size, nonlinearity = magnet.layer_sizes([(row[0], row[1], row[2]) for row in m])
    np.testing.assert_allclose(size, magnet.term_size(m), rtol=1e-13)
    np.testing.assert_allclose(nonlinearity, magnet.nonlinearity(m), rtol=1e-13)


def test_linear_rates_give_the_field_of_an_isotropic_magnet():
    magnet = three_layers(field=None, anisotropy=None)
    m = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3)))
    precession = magnet.gyro * jnp.cross(m, magnet.effective_field(m))
    np.testing.assert_allclose(
        magnet.vector_field(0.0, m), precession + magnet.linear_rates(m) @ m, rtol=1e-12, atol=1e-13
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_rotation_equivariance(seed):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(rng=rng).as_matrix()
    m = rng.normal(size=(2, 3))
    magnet = hanai2025_bilayer(0.05, 6.0)
    np.testing.assert_allclose(
        magnet.vector_field(0.0, jnp.asarray(m @ turn.T)),
        np.asarray(magnet.vector_field(0.0, jnp.asarray(m))) @ turn.T,
        atol=1e-12,
    )


def test_relabelling_layers_relabels_the_motion():
    magnet = three_layers()
    order = np.array([2, 0, 1])
    assert magnet.mediated_exchange is not None and magnet.field is not None and magnet.anisotropy is not None
    relabelled = LayeredMagnet(
        magnet.exchange[order][:, order],
        magnet.damping[order],
        magnet.sd_coupling[order],
        magnet.loss_rate[order],
        magnet.filling[order],
        magnet.temperature[order],
        mediated_exchange=magnet.mediated_exchange[order][:, order],
        field=magnet.field[order],
        anisotropy=UniaxialAnisotropy(magnet.anisotropy.strength[order], magnet.anisotropy.axis),
    )
    m = jnp.asarray(np.random.default_rng(5).normal(size=(3, 3)))
    np.testing.assert_allclose(
        relabelled.vector_field(0.0, m[order]), magnet.vector_field(0.0, m)[order], rtol=1e-12, atol=1e-13
    )


def test_no_light_means_no_light():
    magnet = three_layers().without_light()
    assert magnet.mediated_exchange is not None
    changed = LayeredMagnet(
        magnet.exchange, magnet.damping, [0.0, 0.0, 0.0], 0.0, 0.4, magnet.temperature,
        mediated_exchange=magnet.mediated_exchange * 9, field=magnet.field, anisotropy=magnet.anisotropy,
    )  # fmt: skip
    m = jnp.asarray(np.random.default_rng(5).normal(size=(3, 3)))
    np.testing.assert_array_equal(changed.vector_field(0.0, m), magnet.vector_field(0.0, m))


def test_parameters_are_arrays_and_nothing_is_baked_into_a_trace():
    traces = []

    @jax.jit
    def speed(magnet, m):
        traces.append(1)
        return magnet.vector_field(0.0, m)

    for gamma in (0.0, 0.03, 0.07):
        speed(hanai2025_bilayer(gamma, 5.0), jnp.asarray(M))
    # However the numbers are given: as numbers, lists or arrays, or by the light.
    for damping, g in ((0.1, -10), ([0.1, 0.002], [-10.0, -10.0]), (np.array([0.1, 0.002]), jnp.asarray(-10.0))):
        speed(LayeredMagnet(np.diag([10, 5]), damping, g, 0.0, 1.0, 9.0), jnp.asarray(M))
    speed(illuminated_bilayer().plateau(), jnp.asarray(M))
    assert len(traces) == 1


def test_a_magnet_keeps_the_numbers_that_it_was_given():
    """Whatever is written to the arrays afterwards; JAX shares the memory of those that are aligned."""
    dark = partial(LayeredMagnet, damping=0.1, sd_coupling=-10.0, loss_rate=0.0, temperature=1.0)
    given_arrays = [np.full((layers, layers), 2.0) for layers in range(1, 31)]
    magnets = [dark(array) for array in given_arrays]
    for array in given_arrays:
        array[:] = 7.0
    assert all((np.asarray(magnet.exchange) == 2.0).all() for magnet in magnets)


def test_numbers_in_a_list_take_the_precision_of_jax():
    """Traced or not: of single precision among those of a preset's matrix."""
    build = partial(hanai2025_bilayer, 0.05)
    batch = jax.vmap(build)(jnp.asarray([6.0], jnp.float32))
    for alone in (build(6.0), build(np.float32(6.0)), build(jnp.float32(6.0))):
        assert batch.exchange.dtype == alone.exchange.dtype == jnp.float64
        np.testing.assert_array_equal(batch.exchange[0], alone.exchange)


def test_numbers_take_the_precision_of_the_exchange():
    own = {"bath": BrillouinBath(2.5), "terms": (BiaxialAnisotropy(0.2, 0.1),), "field": [0.0, 0.0, 1.0]}
    magnet = LayeredMagnet(jnp.eye(2, dtype=jnp.float32), 0.1, -10, [0.0, 0.05], 1.0, 9.0, **own)
    assert {x.dtype for x in jax.tree.leaves(magnet)} == {jnp.dtype(jnp.float32)}


GOOD = dict(
    exchange=[[10.0, 5.0], [5.0, 5.0]], damping=0.1, sd_coupling=-10.0, loss_rate=0.0, filling=1.0, temperature=9.0
)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(temperature=-1.0), ["temperature", "-1", "greater than 0"]),
        (dict(temperature=0.0), ["temperature", "greater than 0"]),
        (dict(temperature=[9.0, np.nan]), ["temperature", "nan", "(1,)"]),
        (dict(damping=-0.1), ["damping", "-0.1", "0 or greater"]),
        (dict(loss_rate=-0.1), ["loss_rate", "-0.1"]),
        (dict(exchange=[[1.0, 2.0]]), ["exchange", "(1, 2)", "square"]),
        (dict(exchange=[[1.0, np.inf], [1.0, 1.0]]), ["exchange", "inf"]),
        (dict(damping=[0.1, 0.2, 0.3]), ["damping", "(3,)", "(2,)"]),
        (dict(loss_rate=0.1, sd_coupling=[-10.0, 0.0]), ["sd_coupling", "(1,)", "nonzero"]),
        (dict(field=[1.0, 2.0]), ["field", "(2,)", "(2, 3)"]),
        (dict(temperature="hot"), ["temperature", "hot"]),
        (dict(damping=1j), ["damping", "real"]),
        (dict(anisotropy=np.nan), ["anisotropy", "nan"]),
        (dict(terms=[DzyaloshinskiiMoriya(np.ones((1, 1, 3)))]), ["DzyaloshinskiiMoriya", "(1, 1, 3)", "2 layers"]),
        (dict(terms=[BiaxialAnisotropy([1.0] * 3, [1.0] * 3)]), ["BiaxialAnisotropy", "does not fit 2 layers"]),
    ],
)
def test_bad_input_names_value_and_remedy(change, words):
    assert_refused(lambda: LayeredMagnet(**(GOOD | change)), words)


def test_zero_anisotropy_axis():
    with pytest.raises(ValueError, match="axis"):
        UniaxialAnisotropy(1.0, (0.0, 0.0, 0.0))


def test_unknown_override():
    with pytest.raises(TypeError, match="colour"):
        hanai2025_bilayer(colour=1.0)
