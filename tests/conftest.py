"""Fixtures for every test file, and what `make stress` switches on."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from support import STRESS

import pyattn
from pyattn import _core

settings.register_profile(
    "pyattn",
    deadline=None,
    derandomize=not STRESS,  # the quick suite is the same every time, the long one looks further
    database=None,
    max_examples=4000 if STRESS else 120,
    # Fixtures here only choose settings of the library; there is nothing to reset per example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("pyattn")


def pytest_collection_modifyitems(items):
    if not STRESS:
        skip = pytest.mark.skip(reason="long: only with PYATTN_STRESS=1")
        for item in items:
            if "stress" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(params=_core.isa_runnable())
def isa(request):
    """Every instruction set that this machine can run, one after the other."""
    before = pyattn.get_isa()
    pyattn.set_isa(request.param)
    yield request.param
    pyattn.set_isa(before)


@pytest.fixture
def each_isa():
    """``for isa in each_isa():``, where what comes before costs more than the kernels: operands, an
    oracle. Of a test that fails the last name printed is that of the instruction set."""
    before = pyattn.get_isa()

    def select():
        for isa in _core.isa_runnable():
            pyattn.set_isa(isa)
            print(isa)
            yield isa

    yield select
    pyattn.set_isa(before)


@pytest.fixture(params=[1, 2, 3, 7])
def threads(request):
    """Numbers of threads: fewer and more than this machine may have, and not powers of two."""
    before = pyattn.get_num_threads()
    pyattn.set_num_threads(request.param)
    yield request.param
    pyattn.set_num_threads(before)


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)
