"""Where tiles of a sweep run: processes and clusters give the bits of the default, and lose nothing with a worker."""

import concurrent.futures
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from nrjax import hanai2025_bilayer, simulate_many, sweep
from nrjax.maps.computation import Computation, Observation
from nrjax.rotation.observables import OF_EVERY_STATE
from tests.refusal import assert_refused

AXES = {"loss_rate": np.linspace(0.0, 0.12, 16), "interlayer_exchange": np.linspace(0.0, 12.0, 16)}
# A function of another process is found by name; a partial of it differs each time that it is received. Its number is
# of double precision, and has to stay so.
BUILD = functools.partial(hanai2025_bilayer, temperature=jnp.asarray(8.7))


@pytest.fixture(scope="module")
def expected():
    return sweep(BUILD, AXES, tile=64, progress=False)


@pytest.mark.computes
def test_processes_and_lost_ones(expected, tmp_path):
    """In double precision, though they start in single; refined as well. One that is killed loses no tile."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        xr.testing.assert_identical(sweep(BUILD, AXES, tile=64, executor=pool, progress=False), expected)
        alone = sweep(BUILD, AXES, tile=64, refine=True, progress=False)
        xr.testing.assert_identical(sweep(BUILD, AXES, tile=64, refine=True, executor=pool, progress=False), alone)
        magnets = jax.vmap(lambda loss: hanai2025_bilayer(loss, 6.0))(jnp.linspace(0.0, 0.1, 32))
        start = [[0.1, 0.0, 0.8], [0.0, 0.1, 0.5]]
        alone, there = (
            simulate_many(magnets, start, 5.0, tile=16, executor=executor, progress=False) for executor in (None, pool)
        )
        np.testing.assert_array_equal(there.ms, alone.ms)
        # The worker ends with a tile in its hands.
        pool.submit(time.sleep, 0.5)
        pool.submit(os._exit, 1)
        store = tmp_path / "map.nc"
        with pytest.warns(UserWarning, match="workers were lost .* tiles are computed in this process"):
            kept = sweep(BUILD, AXES, tile=64, store=store, executor=pool, progress=False)
    for name in OF_EVERY_STATE:
        np.testing.assert_array_equal(kept[name], expected[name])


def test_forked_processes_are_refused():
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert_refused(lambda: sweep(BUILD, AXES, executor=pool, progress=False), ["fork", "spawn"])


def test_what_is_received_again_is_the_same_and_compiled_once():
    """Tile by tile another process receives the computation anew, and must not compile it anew."""
    computation = Computation(BUILD, Observation.of(OF_EVERY_STATE, BUILD(), None), "digest")
    sent = pickle.dumps(computation)
    first, again = pickle.loads(sent), pickle.loads(sent)
    assert again is first and first.programs is first.programs
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        slow = Computation(BUILD, Observation.of(OF_EVERY_STATE, BUILD(), None), "asked for by several at once")
        assert len({id(programs) for programs in pool.map(lambda _: slow.programs, range(8))}) == 1
    other = pickle.loads(pickle.dumps(Computation(BUILD, computation.observation, "digest")))
    assert other is not first


@pytest.mark.long
def test_a_cluster_and_a_worker_killed_in_the_middle(expected):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        victim = next(iter(client.run(os.getpid).values()))
        timer = threading.Timer(4.0, os.kill, (victim, signal.SIGKILL))
        timer.start()
        found = sweep(BUILD, AXES, tile=16, executor=client.get_executor(), progress=False)
        assert not timer.is_alive(), "the sweep was over before the worker was killed: the test has lost its point"
    for name in OF_EVERY_STATE:
        np.testing.assert_array_equal(found[name], expected[name])
