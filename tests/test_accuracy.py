"""Errors against float64 (longdouble for float64 input), in the unit of `accuracy.py`."""

import accuracy
import numpy as np
import pytest
from support import operands

import pyattn
from pyattn import _core


def run_cases(isa, count, dtype=np.float32, seed=0, rare=0, **shape):
    """Every instruction set gets its share of the cases; with -s, the largest errors are shown. Of
    many cases one in `rare` may be above the limit, by half of it."""
    isas = _core.isa_runnable()
    seed, share = seed + isas.index(isa), count // len(isas) + 1
    found, ties = [], 0
    for i in range(share):
        arrays, options = accuracy.random_case(np.random.default_rng([seed, i]), dtype, **shape)
        if accuracy.has_near_ties(*arrays, **options):
            ties += 1
            continue
        got = pyattn.attention(*arrays, return_lse=True, **options)
        e = accuracy.errors(got, *arrays, **options)
        found.append((max(e.out, e.lse), e, [seed, i], [a.shape for a in arrays], list(options)))
    found.sort(key=lambda case: -case[0])
    above = sum(case[0] > accuracy.LIMIT for case in found)
    report = (
        f"{isa}, {np.dtype(dtype)}: {above} of {len(found)} cases above {accuracy.LIMIT}, "
        f"{ties} near ties left out; worst: {found[0][1:]}"
    )
    print("\n" + report)
    assert ties < 0.02 * share
    assert above <= (len(found) // rare + 1 if rare else 0), report
    assert found[0][0] <= accuracy.LIMIT_RARE, report


def test_random_cases(isa):
    run_cases(isa, 1200)


def test_random_cases_in_float64(isa):
    run_cases(isa, 150, np.float64, max_keys=1100)


def test_random_cases_with_options(isa):
    run_cases(isa, 750, seed=100, rare=1000, with_options=True)


def test_random_cases_with_options_in_float64(isa):
    run_cases(isa, 200, np.float64, seed=200, rare=200, with_options=True)


@pytest.mark.stress
def test_many_random_cases(isa):
    run_cases(isa, 20_000)


@pytest.mark.stress
def test_many_random_cases_with_options(isa):
    run_cases(isa, 20_000, seed=300, rare=1000, with_options=True)


@pytest.mark.parametrize("offset", [0, 10])
def test_65536_keys(each_isa, rng, offset):
    q, k, v = operands(rng, 1, 1, 2, 65_536, d=64)
    v += np.float32(offset)
    exact = accuracy.Exact(q, k, v)
    for isa in each_isa():
        e = exact.errors(*pyattn.attention(q, k, v, return_lse=True))
        print(f"\n{isa}, 65,536 keys, V offset {offset}: {e}")
        assert max(e.out, e.lse) <= accuracy.LIMIT_LONG


def test_unit_sees_errors(rng):
    """The unit itself must be able to fail: naive float32 over many keys, and a lost key."""
    q, k, v = operands(rng, 1, 1, 4, 4096, d=64)
    v += np.float32(10)
    scores = q @ k.swapaxes(-1, -2) * np.float32(0.125)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    naive = np.zeros((1, 1, 4, 64), np.float32)
    for j in range(4096):
        naive += p[..., j, None] * v[..., j, None, :]
    lse = np.log(p.sum(axis=-1)) + scores.max(axis=-1)
    e = accuracy.errors((naive / p.sum(axis=-1, keepdims=True), lse), q, k, v)
    assert e.out > accuracy.LIMIT

    out, lse = pyattn.attention(q, k[..., :-1, :], v[..., :-1, :], return_lse=True)
    e = accuracy.errors((out, lse), q, k, v)
    assert e.out > 100
    assert e.lse > 100
