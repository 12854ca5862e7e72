"""How much memory a call takes, and arrays larger than 32 bits can count."""

import os
import sys

import numpy as np
import pytest
from support import assert_same_bits, python

import pyattn
from pyattn import _core

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PEAK = """
import sys, numpy as np, pyattn

def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024

def call(length):
    x = np.ones((1, 1, length, 64), np.float32)
    out = np.ones_like(x)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak starts again from what is in use now
    before = peak()
    pyattn.attention(x, x, x, out=out, causal=bool(int(sys.argv[1])))
    return peak() - before

call(2048)  # starts the threads
print(call(16384))
"""


@LINUX
@pytest.mark.parametrize("causal", [0, 1])
def test_scratch_does_not_grow_with_length(causal):
    """At 16,384 keys the scores alone would be 1 GB."""
    extra = int(python(PEAK, causal, PYATTN_NUM_THREADS="2"))
    print(f"\nbeyond the output: {extra / 1e6:.2f} MB")
    assert extra < 4e6


PEAK_OF_OPTIONS = """
import sys, numpy as np, pyattn
from pyattn import biases, masks

def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024

def call(length, make):
    x = np.ones((1, 8, length, 8), np.float32)
    out, options = np.ones_like(x), make(length)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = peak()
    pyattn.attention(x, x, x, out=out, causal=True, **options)
    return peak() - before

rng = np.random.default_rng(0)
make = eval(sys.argv[1])
call(1024, make)
print(call(4096, make))
"""


@LINUX
@pytest.mark.parametrize(
    "options",
    [
        '{"mask": rng.random((1, 1, n, n), np.float32) < 0.9}',
        '{"mask": (rng.random((1, n, 2 * n), np.float32) < 0.9)[..., ::-2]}',
        '{"mask": np.arange(n) % 3 < 2}',
        '{"mask": (np.arange(n) % 3 < 2)[:, None]}',
        '{"mask": masks.dilated(n, dilation=2) | (np.arange(n) < 9)}',
        '{"bias": np.zeros((1, 1, n, n), np.float16)}',
        '{"bias": np.broadcast_to(rng.random(n), (1, 8, n, n))}',
        '{"bias": biases.alibi(biases.alibi_slopes(8))}',
        '{"bias": biases.relative(rng.random((8, 2 * n - 1)), n)}',
        '{"bias": biases.alibi(np.ones(8)) + rng.random(n), "softcap": 3, "sinks": np.ones(8)}',
    ],
)
def test_options_are_read_where_they_lie(options):
    """Of 8 heads of 4,096 x 4,096 scores, the mask alone is 128 MB, a bias of float32 512 MB."""
    extra = int(python(PEAK_OF_OPTIONS, "lambda n: " + options, PYATTN_NUM_THREADS="2"))
    print(f"\nbeyond the output: {extra / 1e6:.2f} MB")
    assert extra < 4e6


@LINUX
def test_huge_strides(isa, tmp_path, rng):
    """Heads and rows more than 2**31 bytes apart, at odd addresses, in a sparse file."""
    far = 2**31 + 17
    path = tmp_path / "sparse"
    try:
        with open(path, "wb") as f:
            f.truncate(4 * far)
        raw = np.memmap(path, np.uint8, "r+")
    except (OSError, ValueError, MemoryError) as e:
        pytest.skip(f"no sparse files here: {e}")

    def view(offset, shape, strides):
        return np.ndarray(shape, np.float32, raw, offset, strides)

    # Two heads far apart, and for value three keys as well.
    arrays = [
        view(1, (2, 5, 8), (far, 32, 4)),
        view(1003, (2, 3, 8), (far, 32, 4)),
        view(2002, (2, 3, 8), (32, far, 4)),
    ]
    out = view(4001, (2, 5, 8), (far, 32, 4))
    if os.stat(path).st_blocks * 512 > 1e9:
        pytest.skip("the file system does not keep files sparse")
    near = [rng.standard_normal(a.shape).astype(np.float32) for a in arrays]
    for a, b in zip(arrays, near, strict=True):
        a[...] = b
    expected = pyattn.attention(*near, causal=True, return_lse=True)
    got = pyattn.attention(*arrays, causal=True, return_lse=True, out=out)
    assert_same_bits((np.array(got[0]), got[1]), expected)
    backwards = [a[::-1] for a in arrays]
    assert_same_bits(pyattn.attention(*backwards, causal=True), expected[0][::-1])
    # A mask of two far heads, and a bias of far keys.
    mask = np.ndarray((2, 5, 3), bool, raw, 5001, (far, 3, 1))
    bias = np.ndarray((5, 3), np.float32, raw, 6001, (4, far))
    mask[...] = rng.random(mask.shape) < 0.7
    bias[...] = rng.standard_normal(bias.shape)
    expected = pyattn.attention(*near, mask=mask.copy(), bias=bias.copy())
    assert_same_bits(pyattn.attention(*arrays, mask=mask, bias=bias), expected)
    backwards = {"mask": mask[:, ::-1], "bias": bias[:, ::-1]}
    expected = pyattn.attention(*near, mask=mask[:, ::-1].copy(), bias=bias[:, ::-1].copy())
    assert_same_bits(pyattn.attention(*arrays, **backwards), expected)


@LINUX
@pytest.mark.parametrize("seen", [1, 70, 128, 1100])
def test_padding_is_never_read(seen):
    """Hidden keys lie in pages past the end of a file: reading one is the end of the process."""
    code = """
import mmap, sys, tempfile, numpy as np, pyattn
seen, isas, d = int(sys.argv[1]), sys.argv[2:], 24
page = mmap.PAGESIZE
size = -(-seen * d * 4 // page) * page
with tempfile.TemporaryFile() as f:
    f.truncate(3 * size)
    raw = np.frombuffer(mmap.mmap(f.fileno(), 3 * size), np.uint8)
    f.truncate(size)
    x = np.ndarray((2 * seen, d), np.float32, raw, size - seen * d * 4)
    x[:seen] = np.random.default_rng(0).standard_normal((seen, d))
    q = x[:seen]
    bias, mask = np.zeros(2 * seen, np.float32), np.ones(2 * seen, bool)
    for isa in isas:
        pyattn.set_isa(isa)
        for options in (
            {"key_lengths": seen},
            {"causal": True, "query_start": 0},
            {"window": (None, 0), "query_start": 0},
            {"window": (5, 0), "query_start": 0},
        ):
            expected = pyattn.attention(q, q, q, **options)
            assert np.array_equal(pyattn.attention(q, x, x, **options), expected)
            out = pyattn.attention(q, x, x, bias=bias, mask=mask, **options)
            assert np.array_equal(out, expected)
"""
    python(code, seen, *_core.isa_runnable())


def test_more_keys_than_float32_can_count():
    """2**24 + 1 keys. The last one takes all; then it is hidden and the others share."""
    keys = 2**24 + 1
    k = np.zeros((keys, 1), np.float32)
    v = np.ones((keys, 1), np.float32)
    k[-1], v[-1] = 200, 7
    q = np.ones((1, 1), np.float32)
    assert pyattn.attention(q, k, v)[0, 0] == 7
    out, lse = pyattn.attention(q, k, v, key_lengths=keys - 1, return_lse=True)
    assert abs(out[0, 0] - 1) < 1e-6
    assert abs(lse[0] - 24 * np.log(2)) < 1e-5
    assert pyattn.attention(q, k, v, causal=True)[0, 0] == 7
    assert pyattn.attention(q, k, v, causal=True, query_start=keys - 2)[0, 0] == out[0, 0]


def test_hidden_keys_cost_nothing():
    """A terabyte of keys of which 5 may be seen: only by not going through them can this end."""
    code = """
import numpy as np, pyattn
x = np.broadcast_to(np.float32(1), (2**34, 16))
for options in (
    {"key_lengths": 5},
    {"causal": True, "query_start": 4},
    {"window": (2, 2), "query_start": 5},
    {"window": (None, 1000), "query_start": 0},
    {"window": (5, 5), "query_start": -9},
):
    expected = 0 if options.get("query_start", 0) < -5 else 1
    for more in {}, {"softcap": 2, "bias": np.float32(0)}:
        assert pyattn.attention(x[:1], x, x, **options, **more)[0, 0] == expected
"""
    python(code, timeout=20)


def test_keys_before_the_window_cost_nothing():
    code = """
import numpy as np, pyattn
x = np.broadcast_to(np.float32(1), (2**34, 16))
for options in (
    {"window": (5, 0)},
    {"window": (2, 2), "query_start": 2**33},
    {"window": (9, None), "query_start": 2**34 - 1},
):
    assert pyattn.attention(x[:1], x, x, **options)[0, 0] == 1
"""
    python(code, timeout=3)
