"""Single spins on lattices: equilibria, closed forms without sampling, limits of many spins, and runs that break."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nrjax import (
    AllToAll,
    Box,
    ClassicalBath,
    DzyaloshinskiiMoriya,
    FokkerPlanckMagnet,
    LayeredMagnet,
    Matrix,
    Shells,
    SpinLattice,
    UniaxialAnisotropy,
    defect_density,
    hanai2025_bilayer,
    local_chirality,
    simulate,
    simulate_spins,
    steady_state,
    structure_factor,
    units,
)
from nrjax._numerics.random_words import random_words
from nrjax.motion import spin_dynamics
from nrjax.motion.spin_steps import (
    OUTCOMES,
    drawn,
    inverse_langevin,
    kick_size,
    kicked,
    llg_drift,
    random_outcomes,
    three_points,
    turned,
)
from tests.magnets import classical_bilayer
from tests.refusal import assert_refused

KEY = jax.random.key(7)


def langevin(x):
    return 1.0 / np.tanh(x) - 1.0 / x


def one_layer(exchange=0.0, temperature=2.0, field=(0.0, 0.0, 0.0), gyro=2.0, damping=0.1, **options):
    return LayeredMagnet(
        [[exchange]], damping, -10.0, 0.0, 1.0, temperature, gyro=gyro, field=field, bath=ClassicalBath(), **options
    )


def apart(spins):
    return [(s[..., 0], s[..., 1], s[..., 2]) for s in jnp.asarray(spins)]


ALL_OUTCOMES = jnp.arange(OUTCOMES, dtype=jnp.uint32)


def test_noise_has_the_moments_of_a_gaussian():
    """Over all outcomes: up to the fifth, and independent."""
    x = np.stack(three_points(ALL_OUTCOMES, jnp.float64))
    for powers in itertools.product(range(6), repeat=3):
        gaussian = np.prod([{0: 1.0, 2: 1.0, 4: 3.0}.get(n, 0.0) for n in powers])
        np.testing.assert_allclose(np.mean(np.prod(x.T**powers, axis=1)), gaussian, atol=1e-12)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("count", [1, 7, 4097])
def test_random_words_are_those_of_jax(kind, count):
    """To the bit, whatever the generator: alone, compiled, and for many keys at once."""

    def theirs(key):
        return jax.random.bits(key, (count,), jnp.uint32)

    keys = jax.random.split(jax.random.key(2**40 + 3, impl=kind), 3)
    np.testing.assert_array_equal(random_words(keys[0], count), theirs(keys[0]))
    np.testing.assert_array_equal(jax.jit(lambda key: random_words(key, count))(keys[1]), theirs(keys[1]))
    np.testing.assert_array_equal(jax.vmap(lambda key: random_words(key, count))(keys), jax.vmap(theirs)(keys))
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(random_words(keys[2], count), theirs(keys[2]))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 4097])
def test_a_spin_has_its_outcome_however_many_there_are(count):
    """A random word modulo 6^3, by the number of the spin alone."""
    words = jax.random.bits(KEY, (5000,), jnp.uint32)
    np.testing.assert_array_equal(random_outcomes(KEY, count), np.asarray(words)[:count] % 216)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_free_harmonics_decay_by_their_own_rate(degree):
    """exp(-l (l + 1) D dt), to second order in the step for every l."""
    start = (jnp.zeros(216), jnp.zeros(216), jnp.ones(216))
    legendre = np.polynomial.legendre.Legendre.basis(degree)
    steps, errors = np.array([0.04, 0.02, 0.01]), []
    for dt in steps:
        _, _, z = kicked(start, kick_size(jnp.asarray(0.6), jnp.asarray(dt)), ALL_OUTCOMES)
        errors.append(np.mean(legendre(np.asarray(z))) - np.exp(-degree * (degree + 1) * 0.6 * dt))
    orders = np.log2(np.abs(np.array(errors[:-1]) / np.array(errors[1:])))
    assert (orders > 2.8).all(), (errors, orders)


@pytest.mark.parametrize("gyro", [0.0, 2.0])
def test_weak_order_of_a_spin_in_a_field(gyro):
    """The bias of <S_z> without sampling, from the stationary state of one step's action on Legendre polynomials: as of
    exact rotations, and of order 2."""
    field, factor = np.array([0.0, 0.0, 6.0]), 1.5
    lattice = SpinLattice(one_layer(field=field, gyro=gyro), (40, 216, 1), llg_factor=factor)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    z = np.broadcast_to(nodes[:, None, None], (40, 216, 1))
    start = np.stack([np.sqrt(1.0 - z**2), np.zeros_like(z), z], axis=-1)
    outcomes = jnp.broadcast_to(ALL_OUTCOMES[None, :, None], (40, 216, 1))
    polynomials = [np.polynomial.legendre.Legendre.basis(degree) for degree in range(30)]
    diffusion, mobility = factor * 2 * 0.1 * 2.0, factor * 2 * 0.1

    def nrjax_step(dt):
        after = [kicked(apart(start[None])[0], kick_size(lattice.diffusion()[0], jnp.asarray(dt)), outcomes)]
        middle = list(map(turned, after, llg_drift(lattice, after, jnp.asarray(0.5 * dt))))
        ((_, _, end),) = map(turned, after, llg_drift(lattice, middle, jnp.asarray(dt)))
        return np.asarray(end)

    def exact_rotations(dt):
        def turn(by, s):
            return Rotation.from_rotvec(by.reshape(-1, 3)).apply(s.reshape(-1, 3)).reshape(s.shape)

        def drift(s):
            return -(gyro * field + np.cross(mobility * field, s))

        sigma = np.sqrt(2 * diffusion * dt)
        kick = sigma * (1 - sigma**2 / 24) * np.stack(three_points(outcomes, jnp.float64), axis=-1)
        after = turn(kick, start)
        middle = turn(0.5 * dt * drift(after), after)
        return turn(dt * drift(middle), after)[..., 2]

    def bias(step, dt):
        end, legendre = step(dt)[..., 0], np.stack([p(nodes) for p in polynomials])
        there = np.stack([p(end).mean(axis=1) for p in polynomials])
        matrix = np.einsum("lz,kz,z,k->lk", there, legendre, weights, np.arange(30) + 0.5)
        # Means of P_l that one step leaves alone; that of P_0 is 1.
        means = np.linalg.solve((np.eye(30) - matrix)[1:, 1:], matrix[1:, 0])
        return means[0] * np.exp(-diffusion * dt) - langevin(3.0)

    found = np.array([bias(nrjax_step, dt) for dt in (0.05, 0.025, 0.0125)])
    np.testing.assert_allclose(found, [bias(exact_rotations, dt) for dt in (0.05, 0.025, 0.0125)], rtol=2e-3)
    np.testing.assert_allclose(found[:-1] / found[1:], 4.0, atol=0.06)
    # At the default step, 0.3 radians.
    assert abs(found[1]) < 2e-3


@pytest.mark.parametrize("length", [0.0, 1e-5, 0.01, 0.4, 0.9, 0.995])
def test_directions_of_a_given_mean(length):
    """Mean and second moments of the density exp(kappa e . S), by the midpoint rule over both random words."""
    shape = 1 << 15, 8
    steps = (((np.arange(n) + 0.5) / n * 2**32).astype(np.uint32) for n in shape)
    first, second = (jnp.asarray(x) for x in np.meshgrid(*steps, indexing="ij"))
    axis = np.array([0.36, -0.48, -0.8])
    x, y, z = (np.full(shape, length * a) for a in axis)
    spins = np.stack(drawn((jnp.asarray(x), jnp.asarray(y), jnp.asarray(z)), first, second))
    np.testing.assert_allclose(np.sum(spins**2, axis=0), 1.0, atol=1e-14)
    np.testing.assert_allclose(spins.mean(axis=(1, 2)), length * axis, atol=2e-5)
    kappa = float(inverse_langevin(jnp.asarray(length)))
    assert abs((langevin(kappa) if kappa > 0 else 0.0) - length) < 1e-10
    along = 1.0 - 2.0 * (length / kappa if kappa > 0 else 1 / 3)
    expected = along * np.outer(axis, axis) + 0.5 * (1.0 - along) * (np.eye(3) - np.outer(axis, axis))
    np.testing.assert_allclose(np.einsum("ixy,jxy->ij", spins, spins) / first.size, expected, atol=2e-5)


def averaged(lattice, look, t1, times=60, **options):
    """The mean of what is seen of the spins in the second half of four realizations."""
    saved = np.linspace(t1 / 2, t1, times)

    def run(key):
        return simulate_spins(lattice, key, t1, saveat=saved, observe={"x": look}, **options).observed["x"]

    found = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(KEY, 4)))
    return found.mean()


@pytest.mark.computes
@pytest.mark.parametrize("dynamics", ["llg", "collision"])
@pytest.mark.parametrize("gyro, factor", [(2.0, 1.5), pytest.param(0.0, 1.0, marks=pytest.mark.long)])
def test_equilibria_are_those_of_boltzmann(dynamics, gyro, factor):
    """Langevin's law in a field, and L(J/T) for every bond of open chains, for any gyro and c, also of unlike sites."""
    options = {"dynamics": dynamics, "llg_factor": factor}
    free = SpinLattice(one_layer(field=(0.0, 0.0, 6.0), gyro=gyro), (32, 48, 1), **options)
    mean = averaged(free, lambda s: jnp.mean(s[0, ..., 2]), t1=12.0, dt=0.008)
    # Deviations of 0.32 of 1536 spins, forgotten 15 times in 4 runs.
    assert abs(mean - langevin(3.0)) < 4 * 0.32 / np.sqrt(1536 * 15 * 4)
    # A chain sees half of each neighbour: bonds of j/2.
    chain = Shells(1, periodic=(False, True, True))
    along = SpinLattice(one_layer(exchange=6.0, gyro=gyro), (600, 1, 1), chain, **options)
    mean = averaged(along, lambda s: jnp.mean(jnp.sum(s[0, 1:] * s[0, :-1], axis=-1)), t1=30.0, dt=0.008)
    assert abs(mean - langevin(1.5)) < 4 * 0.5 / np.sqrt(600 * 25 * 4)


@pytest.mark.computes
@pytest.mark.parametrize(
    "dynamics, damping, duration, pairs", [("llg", 0.002, 200.0, 1000), ("collision", 0.01, 60.0, 300)]
)
def test_pairs_with_hardly_any_damping_stay_in_equilibrium(dynamics, damping, duration, pairs):
    """<S1 . S2> = L(J/T) of two spins that turn about each other, whatever the damping. At steps of 0.3 it
    would be 0.34 and 0.58 where it is 0.67: they have to be smaller, the weaker the damping."""
    pair = LayeredMagnet([[0.0, 3.0], [3.0, 0.0]], damping, -10.0, 0.0, 1.0, 1.0, bath=ClassicalBath())
    lattice = SpinLattice(pair, (1, 1, 1), dynamics=dynamics)
    saved = np.linspace(0.75, 1.0, 4) * duration
    run = jax.jit(jax.vmap(lambda key: simulate_spins(lattice, key, duration, saveat=saved).moments))
    m = np.asarray(run(jax.random.split(KEY, pairs)))
    along = np.sum(m[:, :, 0] * m[:, :, 1], axis=-1).mean(axis=1)
    assert abs(along.mean() - langevin(3.0)) < 4 * along.std() / np.sqrt(along.size) + 0.005 * langevin(3.0)
    assert along.std() / np.sqrt(along.size) < 0.02


def test_what_neighbours_weigh():
    """sum |v| and sum v^2, from what single spins give to every site; weights of either sign count by their size."""
    cells = (3, 4, 3)
    rng = np.random.default_rng(3)
    dense = rng.normal(size=(36, 36)) * (rng.uniform(size=(36, 36)) < 0.2)
    kinds = [AllToAll(), Box(1), Shells(2), Shells(1, weights=(1.0, -0.4)), Matrix(dense)]
    kinds.append(Matrix(sparse.BCOO.fromdense(jnp.asarray(dense))))
    for kind, (a, b) in itertools.product(kinds, [(0, 0), (0, 1)]):
        if isinstance(kind, Shells) and len(kind.basis) <= b:
            continue
        alone = jnp.eye(36).reshape(36, *cells)
        weights = np.stack([np.broadcast_to(kind.mean(x, a, b), cells).ravel() for x in alone], axis=1)
        expected = np.abs(weights).sum(axis=1).max(), (weights**2).sum(axis=1).max()
        np.testing.assert_allclose(kind.sizes(a, b, cells), expected, rtol=1e-12)


@pytest.mark.parametrize("cells", [(6, 5, 7), (18, 20, 17), (40, 36, 30), (30, 40, 1), (1, 9, 8), (12, 12, 3)])
@pytest.mark.parametrize("reach", [1, 2])
def test_mean_over_a_box(cells, reach):
    """As SciPy's uniform filter and, of the eight neighbours in a body-centred lattice, as a sum of copies, on lattices
    of few cells and of many, closed and open."""
    x = np.random.default_rng(7).normal(size=cells)
    width: Any = [2 * reach + 1 if n > 1 else 1 for n in cells]
    for periodic, beyond in ((True, "wrap"), (False, "constant")):
        if periodic and any(w > n for w, n in zip(width, cells, strict=True)):
            continue
        found = Box(reach, (periodic, periodic, periodic)).mean(jnp.asarray(x), 0, 0)
        np.testing.assert_allclose(found, ndimage.uniform_filter(x, width, mode=beyond), atol=1e-13)
    if min(cells) > 1:
        eight = [np.roll(x, there, (0, 1, 2)) for there in itertools.product((0, 1), repeat=3)]
        np.testing.assert_allclose(Shells(2).mean(jnp.asarray(x), 0, 1), sum(eight) / 8, atol=1e-13)


@pytest.mark.parametrize("strength", [-4.0, 4.0])
def test_equilibrium_of_an_anisotropy(strength):
    """exp(K z^2/2 T) of free spins: an easy plane and an easy axis."""
    lattice = SpinLattice(one_layer(anisotropy=UniaxialAnisotropy(strength)), (32, 48, 1))
    mean = averaged(lattice, lambda s: jnp.mean(s[0, ..., 2] ** 2), t1=12.0, dt=0.008)
    z, weights = np.polynomial.legendre.leggauss(40)
    weights = weights * np.exp(strength * z**2 / (2.0 * 2.0))
    expected = (weights @ z**2) / weights.sum()
    # Deviations of 0.3 of 1536 spins, forgotten 15 times in 4 runs.
    assert abs(mean - expected) < 4 * 0.3 / np.sqrt(1536 * 15 * 4)


@pytest.mark.parametrize("gyro", [0.0, 2.0])
def test_transients_are_of_second_order(gyro):
    """Free spins lose their mean by exp(-2 D t) at any step, whether it is saved often or once."""
    magnet = one_layer(temperature=2.0, field=(0.0, 0.0, 1e-6), gyro=gyro)
    lattice = SpinLattice(magnet, (64, 64, 32))
    start, times = [[0.0, 0.0, 0.999]], np.array([0.2, 0.25, 0.8])
    decay = np.exp(-2.0 * float(lattice.diffusion()[0]) * times * units.ps)
    for saved in (times, times[-1:]):
        found = simulate_spins(lattice, KEY, 0.8, start=start, saveat=saved, dt=0.1, progress=False)
        # 1/sqrt(3 N) is 0.0016.
        np.testing.assert_allclose(found.moments[:, 0, 2], 0.999 * decay[-len(saved) :], atol=0.005)


def test_neighbours_are_those_of_the_crystal():
    crystal = Shells(2)
    (own, across) = (crystal.bonds(0, b, (8, 8, 8)) for b in range(2))
    assert sorted(step for step, _ in own) == sorted(
        tuple(int(x) for x in s * np.eye(3, dtype=int)[axis]) for axis in range(3) for s in (1, -1)
    )
    assert len(across) == 8 and {x for step, _ in across for x in step} == {-1, 0}
    assert all(weight == 1 / 6 for _, weight in own) and all(weight == 1 / 8 for _, weight in across)
    # Face-centred cubic: 12 nearest, 6 next; hexagonal layers: 6.
    fcc = Shells(vectors=np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2, basis=[[0, 0, 0]], weights=(1.0, 0.5))
    weights = sorted(weight for _, weight in fcc.bonds(0, 0, (6, 6, 6)))
    np.testing.assert_allclose(weights, [0.5 / 15] * 6 + [1 / 15] * 12)
    flat = Shells(vectors=[[1, 0, 0], [0.5, 0.75**0.5, 0], [0, 0, 1]], basis=[[0, 0, 0]])
    assert len(flat.bonds(0, 0, (6, 6, 1))) == 6


@pytest.mark.parametrize("dynamics", ["llg", "collision"])
def test_every_kind_of_neighbours_is_a_matrix(dynamics):
    """The fields of each kind against sums over pairs written out, and uniform spins feel those of the layers."""
    magnet = classical_bilayer(6.0, 2.0, 0.08, gyro=2.0)
    cells, rng = (3, 4, 3), np.random.default_rng(0)
    spins = rng.normal(size=(2, *cells, 3))
    spins /= np.linalg.norm(spins, axis=-1, keepdims=True)
    sites = list(itertools.product(*map(range, cells)))

    def by_hand(weight):
        """h of every layer and site, of weights v_ab(i, j); what a spin does to itself is left out in collisions."""
        h = np.zeros((2, *cells, 3))
        for a, i, b, j in itertools.product(range(2), sites, range(2), sites):
            if not (dynamics == "collision" and a == b and i == j):
                h[(a, *i)] += float(magnet.exchange[a, b]) * weight(a, b, i, j) * spins[(b, *j)]
        return h

    def box(a, b, i, j):
        near = all(min((x - y) % n, (y - x) % n) <= 1 for x, y, n in zip(i, j, cells, strict=True))
        return near / 27

    def open_box(a, b, i, j):
        return all(abs(x - y) <= 1 for x, y in zip(i, j, strict=True)) / 27

    def shells(weights):
        """By distances; both copies of a neighbour that lies on two sides of a short axis count."""

        def weight(a, b, i, j):
            def near(at, to):
                images = itertools.product(*((-2 * n, -n, 0, n, 2 * n) for n in cells))
                return np.array([np.linalg.norm(np.subtract(to, at) + image + 0.5 * (b - a)) for image in images])

            seen = {d: w for d, w in zip((1.0, 2**0.5) if a == b else (0.75**0.5, 2.75**0.5), weights, strict=False)}
            counts = (6, 12) if a == b else (8, 24)
            total = sum(n * w for n, w in zip(counts, weights, strict=False))
            return sum(w * np.isclose(near(i, j), d).sum() for d, w in seen.items()) / total

        return weight

    values = rng.normal(size=(36, 36))
    kinds = [
        (AllToAll(), lambda a, b, i, j: 1 / 36),
        (Box(1), box),
        (Box(1, (False, False, False)), open_box),
        (Shells(2), shells((1.0,))),
        (Shells(2, weights=(1.0, 0.3)), shells((1.0, 0.3))),
        (Matrix(values), lambda a, b, i, j: values[sites.index(i), sites.index(j)]),
        (Matrix(sparse.BCOO.fromdense(jnp.asarray(values))), lambda a, b, i, j: values[sites.index(i), sites.index(j)]),
    ]
    even = np.broadcast_to([0.0, 0.6, 0.8], (2, *cells, 3))
    for neighbours, weight in kinds:
        lattice = SpinLattice(magnet, cells, neighbours, dynamics=dynamics)
        fields = lattice.fields(apart(spins))
        np.testing.assert_array_equal([np.stack(spin, axis=-1) for spin in lattice.beside(apart(spins))], spins)
        h = np.stack([np.stack(np.broadcast_arrays(*field, spins[0, ..., 0])[:3], axis=-1) for field, _ in fields])
        # llg: up to what turns nothing.
        difference = h - by_hand(weight)
        if dynamics == "llg":
            difference = np.cross(difference, spins)
        np.testing.assert_allclose(difference, 0.0, atol=1e-12)
        if not isinstance(neighbours, Matrix) and dynamics == "llg" and neighbours != Box(1, (False, False, False)):
            uniform = lattice.fields(apart(even))
            expected = magnet.effective_field(jnp.asarray(even[:, 0, 0, 0]))
            push = magnet.exchange_rates() @ even[:, 0, 0, 0]
            for a, (field, drive) in enumerate(uniform):
                np.testing.assert_allclose([x[0, 0, 0] for x in field], expected[a], rtol=1e-12)
                np.testing.assert_allclose([x[0, 0, 0] for x in drive], push[a], rtol=1e-12)


def test_spins_stay_of_length_one_and_noise_belongs_to_its_site_and_step():
    """Alone, in a batch, in one piece or two, jitted or not: the same bits."""
    lattice = SpinLattice.from_layers(classical_bilayer(6.0, 2.0, 0.08, gyro=2.0), (6, 5, 4), reach=1)
    saved = np.linspace(0.5, 3.0, 6)
    keys = jax.random.split(KEY, 3)
    alone = simulate_spins(lattice, keys[1], 3.0, saveat=saved, progress=False)
    assert bool(alone.valid) and alone.spins_per_layer == 120 and "2 layers of 120 spins" in str(alone)
    np.testing.assert_allclose(np.linalg.norm(alone.spins, axis=-1), 1.0, atol=1e-13)
    batch = jax.vmap(lambda key: simulate_spins(lattice, key, 3.0, saveat=saved))(keys)
    np.testing.assert_allclose(batch.moments[1], alone.moments, rtol=0, atol=1e-12)
    lattices = jax.vmap(
        lambda loss: SpinLattice.from_layers(classical_bilayer(6.0, 2.0, loss, gyro=2.0), (6, 5, 4), reach=1)
    )(jnp.array([0.02, 0.08]))
    over = jax.vmap(lambda lattice: simulate_spins(lattice, keys[1], 3.0, saveat=saved, dt=0.008))(lattices)
    other = simulate_spins(lattice, keys[1], 3.0, saveat=saved, dt=0.008)
    np.testing.assert_allclose(over.moments[1], other.moments, rtol=0, atol=1e-12)


def test_short_calls_are_followed_by_longer_ones(monkeypatch):
    lattice, numbers = SpinLattice.from_layers(classical_bilayer(6.0, 2.0, 0.08), (5, 4, 3)), []
    advance = spin_dynamics._advance_compiled

    def counted(*arguments):
        numbers.append(int(arguments[5]))
        return advance(*arguments)

    monkeypatch.setattr(spin_dynamics, "_advance_compiled", counted)
    whole = simulate_spins(lattice, KEY, 6.0, progress=False)
    (steps,) = numbers
    monkeypatch.setattr(spin_dynamics, "AT_A_TIME", 120 * 7)
    for a_call, twice in ((0.0, 1), (np.inf, 2)):
        monkeypatch.setattr(spin_dynamics, "A_CALL", a_call)
        numbers.clear()
        np.testing.assert_array_equal(simulate_spins(lattice, KEY, 6.0, progress=False).spins, whole.spins)
        assert numbers[:3] == [7, 7 * twice, 7 * twice**2] and sum(numbers) == steps


# In the first of two intervals, between them before the look at its end, and in the second.
@pytest.mark.parametrize("call", [2, 5, *(pytest.param(n, marks=pytest.mark.long) for n in (6, 8))])
def test_a_run_goes_on_from_its_checkpoint(call, tmp_path, monkeypatch):
    lattice = SpinLattice.from_layers(classical_bilayer(6.0, 2.0, 0.08), (5, 4, 3))
    arguments: dict[str, Any] = {
        "saveat": np.linspace(1.0, 6.0, 6),
        "progress": False,
        "observe": {"q": structure_factor},
    }
    whole = simulate_spins(lattice, KEY, 6.0, **arguments)
    monkeypatch.setattr(spin_dynamics, "BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(spin_dynamics, "AT_A_TIME", 120 * 7)
    monkeypatch.setattr(spin_dynamics, "A_CALL", 0.0)
    path, calls, advance = tmp_path / "run.npz", [], spin_dynamics._advance_compiled

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return advance(*arguments)

    monkeypatch.setattr(spin_dynamics, "_advance_compiled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate_spins(lattice, KEY, 6.0, checkpoint=path, **arguments)
    assert path.exists()
    assert_refused(
        lambda: simulate_spins(lattice, jax.random.key(8), 6.0, checkpoint=path, **arguments),
        ["run.npz", "another run"],
    )
    other: dict[str, Any] = arguments | {"observe": {"q": lambda spins: 2.0 * structure_factor(spins)}}
    assert_refused(lambda: simulate_spins(lattice, KEY, 6.0, checkpoint=path, **other), ["run.npz", "another run"])
    again = simulate_spins(lattice, KEY, 6.0, checkpoint=path, **arguments)
    assert not path.exists() and len(calls) > call
    for found, expected in zip(jax.tree.leaves(again), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(found, expected)
    path.write_bytes(b"half")
    with pytest.warns(UserWarning, match="damaged .* begins anew"):
        anew = simulate_spins(lattice, KEY, 6.0, checkpoint=path, **arguments)
    np.testing.assert_array_equal(anew.moments, whole.moments)


def test_many_colliding_spins_are_the_layers():
    """The closure is the limit of the collisions, while moments turn and change their lengths."""
    magnet = classical_bilayer(6.0, 2.0, 0.08, gyro=0.1)
    lattice = SpinLattice.from_layers(magnet, (24, 24, 24), dynamics="collision")
    start, saved = np.array([[0.0, 0.1, 0.8], [0.3, 0.0, 0.1]]), np.linspace(0.25, 4.0, 16)
    spins = simulate_spins(lattice, KEY, 4.0, start=start, saveat=saved, dt=0.04, progress=False)
    first = np.asarray(spins.moments)
    layers = simulate(magnet, start, 4.0, saveat=saved)
    assert np.abs(np.asarray(layers.ms)[-1] - start).max() > 0.3
    # 1/sqrt(3 N) is 0.005; the drawing of the start is a part of it.
    np.testing.assert_allclose(first, layers.ms, atol=0.02)


def test_driven_faster_than_spins_forget_is_not_valid():
    magnet = LayeredMagnet([[0.0, 6.0], [6.0, 0.0]], 1e-4, -1.0, 0.5, 0.1, 2.0, bath=ClassicalBath())
    lattice = SpinLattice.from_layers(magnet, (4, 4, 4), dynamics="collision")
    assert not bool(simulate_spins(lattice, KEY, 0.2, progress=False).valid)


def rotation_of(solution, first):
    """(mean |m_A|, mean |m_B| along and across m_A, rate about the normal in meV) of a chase, from saved moments."""
    m = np.asarray(solution.moments)[first:]
    length = np.linalg.norm(m[:, 0], axis=1)
    a = m[:, 0] / length[:, None]
    along = np.sum(m[:, 1] * a, axis=1)
    across = np.linalg.norm(m[:, 1] - along[:, None] * a, axis=1)
    n = np.cross(m[:, 0], m[:, 1])
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    turn = np.sum(np.cross(a[:-1], a[1:]) * n[:-1], axis=1)
    dt = np.diff(np.asarray(solution.ts)[first:]) * units.ps
    return length.mean(), along.mean(), across.mean(), float(np.mean(np.arcsin(turn) / dt))


@pytest.mark.long
def test_many_diffusing_spins_are_the_distribution():
    """The rotating state of a Fokker-Planck equation, within what 1/N and the length of the run leave."""
    magnet = classical_bilayer(6.0, 2.0, 0.08, gyro=0.0)
    state = steady_state(FokkerPlanckMagnet(magnet, 8))
    lattice = SpinLattice.from_layers(magnet, (40, 20, 20))
    solution = simulate_spins(lattice, KEY, 500.0, start=state.m, saveat=np.linspace(1.0, 500.0, 500), progress=False)
    a, along, across, rate = rotation_of(solution, 40)
    m = np.asarray(state.m)
    expected = np.linalg.norm(m[0]), m[0] @ m[1] / np.linalg.norm(m[0])
    np.testing.assert_allclose([a, along], expected, atol=0.004)
    np.testing.assert_allclose(across, np.linalg.norm(np.cross(*m)) / expected[0], atol=0.004)
    np.testing.assert_allclose(rate, state.chase_frequency * units.GHz, rtol=0.02)


# (reach, T, cells along an edge) -> |m_A|, |m_B|, |m_B| across m_A and the rate in meV with their standard errors.
CHASES = {
    (1, 1.5, 8): [(0.7208, 0.0019), (0.1953, 0.0011), (0.1585, 0.0014), (0.2987, 0.0023)],
    (1, 1.5, 12): [(0.6943, 0.0023), (0.1901, 0.0010), (0.1553, 0.0006), (0.2954, 0.0021)],
    ("nearest", 1.0, 8): [(0.673, 0.004), None, (0.146, 0.001), (0.2745, 0.0014)],
    ("nearest", 1.0, 12): [(0.619, 0.004), None, (0.138, 0.001), (0.2734, 0.0009)],
    ("nearest", 1.0, 16): [(0.580, 0.008), None, (0.129, 0.001), (0.2700, 0.0012)],
}


@pytest.mark.long
@pytest.mark.parametrize("reach, temperature, edge", CHASES)
def test_the_chase_on_a_lattice(reach, temperature, edge):
    """27 cells in reach, or the nearest of CsCl, gyro = 0: figures of an independent prototype, within three standard
    errors."""
    magnet = classical_bilayer(6.0, temperature, 0.1, gyro=0.0)
    lattice = SpinLattice.from_layers(magnet, (edge, edge, edge), reach=reach)
    saved = np.linspace(1.0, 1500.0, 1500)
    runs = [simulate_spins(lattice, key, 1500.0, saveat=saved, progress=False) for key in jax.random.split(KEY, 4)]
    each = np.array([rotation_of(run, 200) for run in runs])
    each[:, 1] = [np.linalg.norm(np.asarray(run.moments)[200:, 1], axis=1).mean() for run in runs]
    found, error = each.mean(axis=0), each.std(axis=0, ddof=1) / 2.0
    for which, published in enumerate(CHASES[reach, temperature, edge]):
        if published is not None:
            value, theirs = published
            assert abs(found[which] - value) < 3.0 * np.hypot(error[which], theirs), (which, found, error)


def by_heat_bath(edge, temperature, sweeps, first):
    """Means of |m_A| and |m_B| in the equilibrium of CsCl, with standard errors: every spin is drawn anew from what its
    neighbours let it have, which knows of no dynamics."""
    rng, exchange = np.random.default_rng(0), np.array([[10.0, 6.0], [6.0, 5.0]])
    spins = np.zeros((2, edge, edge, edge, 3))
    spins[..., 2] = 1.0
    parity, seen = np.indices((edge,) * 3).sum(axis=0) % 2, []

    def field(layer):
        own, other = spins[layer], spins[1 - layer]
        around = sum(np.roll(own, step, axis) for axis in range(3) for step in (1, -1)) / 6.0
        for axis in range(3):
            other = 0.5 * (other + np.roll(other, 1 - 2 * layer, axis))
        return exchange[layer, layer] * around + exchange[layer, 1 - layer] * other

    for _ in range(sweeps):
        for layer, odd in itertools.product(range(2), range(2)):
            now = parity == odd
            h = field(layer)[now]
            size = np.linalg.norm(h, axis=1)
            axis, kappa = h / size[:, None], size / temperature
            along = 1.0 + np.log1p((1.0 - rng.random(len(size))) * np.expm1(-2.0 * kappa)) / kappa
            beside = np.cross(axis, rng.normal(size=axis.shape))
            beside /= np.linalg.norm(beside, axis=1)[:, None]
            spins[layer][now] = along[:, None] * axis + np.sqrt(1.0 - along**2)[:, None] * beside
        seen.append(np.linalg.norm(spins.mean(axis=(1, 2, 3)), axis=1))
    blocks = np.array(seen[first:]).reshape(20, -1, 2).mean(axis=1)
    return blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(20.0)


@pytest.mark.long
@pytest.mark.parametrize("gyro", [0.0, 2.0])
def test_the_equilibrium_of_a_crystal(gyro):
    """CsCl in darkness at T = 1.5: that of the heat bath, however fast spins precess."""
    exact, error = by_heat_bath(12, 1.5, sweeps=5200, first=200)
    magnet = eqx.tree_at(lambda m: m.damping, classical_bilayer(6.0, 1.5, 0.0, gyro=gyro), jnp.full(2, 0.1))
    lattice = SpinLattice.from_layers(magnet, (12, 12, 12), reach="nearest")
    saved, dt = np.linspace(0.5, 200.0, 400), 0.005 / units.ps
    runs = [simulate_spins(lattice, key, 200.0, dt=dt, saveat=saved, progress=False) for key in jax.random.split(KEY)]
    blocks = np.concatenate(
        [np.linalg.norm(np.asarray(run.moments)[40:], axis=2).reshape(6, 60, 2).mean(axis=1) for run in runs]
    )
    ours = blocks.std(axis=0, ddof=1) / np.sqrt(12.0)
    assert np.all(np.abs(blocks.mean(axis=0) - exact) < 3.0 * np.hypot(error, ours)), (blocks.mean(axis=0), ours, exact)


def hedgehogs(shape, *places):
    """Spins of layers that point away from a place each."""
    cells = np.stack(np.indices(shape), axis=-1).astype(float)
    away = np.stack([cells - np.array(place) for place in places])
    return away / np.linalg.norm(away, axis=-1, keepdims=True)


def test_hedgehogs_are_counted():
    """One in the cube around its place, whichever way it is turned or inside out; none where spins hardly turn."""
    middle, aside = (2.4, 1.7, 2.6), (-3.0, -2.0, 1.5)
    spins = hedgehogs((5, 4, 6), middle, aside)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    for some in (spins, -spins, spins @ turn):
        np.testing.assert_allclose(defect_density(jnp.asarray(some)) * 4 * 3 * 5, [1.0, 0.0], atol=1e-12)
    # Whatever spins do, each cube holds a whole number.
    random = np.random.default_rng(1).normal(size=(2, 2, 2, 2, 3))
    found = np.asarray(defect_density(jnp.asarray(random / np.linalg.norm(random, axis=-1, keepdims=True))))
    np.testing.assert_allclose(found, np.round(found), atol=1e-12)
    assert_refused(lambda: defect_density(jnp.asarray(hedgehogs((4, 4, 1), middle))), ["(4, 4, 1)", "each axis"])


def test_observables():
    rng = np.random.default_rng(1)
    spins = rng.normal(size=(2, 16, 16, 8, 3))
    spins /= np.linalg.norm(spins, axis=-1, keepdims=True)
    q = structure_factor(jnp.asarray(spins))
    np.testing.assert_allclose(np.mean(q), 1.0, atol=1e-12)
    np.testing.assert_allclose(q[:, 0, 0, 0], 2048 * np.sum(spins.mean(axis=(1, 2, 3)) ** 2, axis=-1), rtol=1e-12)
    # A spiral along x of four cells lights up q = +-1/4 alone.
    angle = 2 * np.pi * np.arange(16)[:, None, None] / 4 * np.ones((16, 16, 8))
    spiral = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)[None]
    lit = np.asarray(structure_factor(jnp.asarray(spiral)))[0]
    np.testing.assert_allclose(lit[[4, 12], 0, 0], 1024.0, rtol=1e-12)
    assert lit.sum() == pytest.approx(2048.0)
    quarter = np.stack([spiral[0], np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=-1)])
    np.testing.assert_allclose(local_chirality(jnp.asarray(quarter)), [0.0, 0.0, 1.0], atol=1e-12)


CHAIN = one_layer()
EASY = one_layer(anisotropy=UniaxialAnisotropy(2.0))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: SpinLattice(hanai2025_bilayer(0.05, 6.0), (4, 4, 4)), ["QuantumBath", "ClassicalBath()"]),
        (lambda: SpinLattice(CHAIN, (4, 4, 0)), ["cells", "(4, 4, 0)"]),
        (lambda: SpinLattice(CHAIN, (4, 4)), ["cells"]),
        (lambda: SpinLattice(CHAIN, (4, 4, 4), dynamics="heun"), ["heun", "llg, collision"]),
        (lambda: SpinLattice(EASY, (4, 4, 4), dynamics="collision"), ["UniaxialAnisotropy", "own", "'llg'"]),
        (lambda: SpinLattice(CHAIN, (4, 4, 4), llg_factor=0.0), ["llg_factor", "0"]),
        (lambda: SpinLattice.from_layers(CHAIN, (4, 4, 4), reach=0), ["reach = 0", "'nearest'"]),
        (lambda: SpinLattice.from_layers(CHAIN, (4, 4, 4), reach=2), ["reach = 2", "some twice"]),
        (lambda: SpinLattice.from_layers(CHAIN, (1, 1, 1), reach="nearest"), ["one cell"]),
        (lambda: SpinLattice(CHAIN, (4, 4, 4), Shells(2)), ["basis", "1 layers"]),
        (lambda: SpinLattice(CHAIN, (2, 2, 2), Matrix(np.eye(3))), ["(3, 3)", "(8, 8)"]),
        (lambda: Shells(), ["basis", "layers"]),
        (lambda: Shells(1, vectors=[[1, 0, 0], [0, 1, 0], [1, 1, 0]]), ["vectors", "span"]),
        (lambda: Shells(1, weights=()), ["weights"]),
        (
            lambda: SpinLattice(
                LayeredMagnet(
                    np.eye(2),
                    0.1,
                    -10.0,
                    0.0,
                    1.0,
                    2.0,
                    bath=ClassicalBath(),
                    terms=[DzyaloshinskiiMoriya(np.zeros((2, 2, 3)))],
                ),
                (4, 4, 4),
            ),
            ["DzyaloshinskiiMoriya acts between layers", "Leave it out"],
        ),
        (lambda: simulate_spins(SpinLattice(CHAIN, (4, 4, 4)), KEY, -1.0), ["t1", "-1"]),
        (lambda: simulate_spins(SpinLattice(CHAIN, (4, 4, 4)), KEY, 1.0, dt=0.0), ["dt", "0"]),
        (lambda: simulate_spins(SpinLattice(CHAIN, (4, 4, 4)), KEY, 1.0, saveat=[0.5, 0.2]), ["saveat"]),
        (lambda: simulate_spins(SpinLattice(CHAIN, (4, 4, 4)), KEY, 1.0, start=[[0, 0, 1.5]]), ["length", "1.5"]),
        (lambda: simulate_spins(SpinLattice(CHAIN, (4, 4, 4)), KEY, 1.0, start=np.ones((2, 2))), ["start", "(2, 2)"]),
        (lambda: simulate_spins(SpinLattice(CHAIN, (10**5, 10**5, 10)), KEY, 1.0), ["1e+11 spins", "Take fewer"]),
    ],
)
def test_bad_input(make, words):
    assert_refused(make, words)


def test_single_precision_takes_the_same_steps():
    """Late times that rounding moves are still whole steps apart: the same noise turns spins that see no others."""
    looks = 0.112 * np.arange(1, 900)
    spins = np.random.default_rng(3).normal(size=(1, 4, 4, 4, 3))
    spins /= np.linalg.norm(spins, axis=-1, keepdims=True)
    runs = []
    for dtype in (jnp.float64, jnp.float32):
        lattice = SpinLattice(jax.tree.map(lambda x, t=dtype: x.astype(t), one_layer(exchange=0.0)), (4, 4, 4))
        start = jnp.asarray(spins, dtype)
        runs.append(simulate_spins(lattice, KEY, looks[-1], dt=0.028, saveat=looks, start=start, progress=False))
    np.testing.assert_allclose(runs[1].moments, runs[0].moments, atol=2e-3)


def test_times_that_rounding_hardly_tells_apart_are_a_step_apart():
    """Without noise a spin precesses between any two times that differ."""
    magnet = jax.tree.map(lambda x: x.astype(jnp.float32), one_layer(field=(0.0, 0.0, 1.0), damping=0.0))
    start, looks = jnp.asarray([[[[[1.0, 0.0, 0.0]]]]], jnp.float32), np.array([2000.0, 2000.0006])
    run = simulate_spins(SpinLattice(magnet, (1, 1, 1)), KEY, 2000.0006, dt=2.0, saveat=looks, start=start)
    assert np.diff(np.asarray(run.ts)) > 0 and np.abs(np.diff(np.asarray(run.moments), axis=0)).max() > 1e-4
