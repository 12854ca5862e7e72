"""Masks over grids that the kernel works on patch by patch: attention, and when that is done."""

import pickle
import threading

import numpy as np
import pytest
from accuracy import LIMIT, Exact
from support import assert_same_bits, operands, poisoned

import pyattn
from pyattn import _core, attention, biases, masks

MASKS = {
    "neighborhood": masks.neighborhood((19, 23), 7),
    "oblong": masks.neighborhood((9, 40), (3, 13)),
    "kernel of one line": masks.neighborhood((12, 30), (1, 9)),
    "kernel of one column": masks.neighborhood((30, 12), (9, 1)),
    "kernel of one": masks.neighborhood((5, 6), 1),
    "kernel as large as the grid": masks.neighborhood((9, 11), (9, 11), causal=(True, False)),
    "dilated": masks.neighborhood((25, 19), (5, 3), dilation=(3, 4)),
    "dilated line": masks.neighborhood(200, 9, dilation=5),
    "causal": masks.neighborhood((20, 21), (7, 5), causal=True),
    "causal and dilated": masks.neighborhood((21, 20), 4, dilation=(2, 3), causal=True),
    "windows": masks.grid_windows((21, 28), 7),
    "shifted": masks.grid_windows((21, 28), 7, shift=3),
    "cut off": masks.grid_windows((20, 26), (6, 11), shift=(0, 4)),
    "large windows": masks.grid_windows((38, 19), 19),
    "several chunks of keys": masks.grid_windows((24, 25), 24),
    "small windows": masks.grid_windows((8, 10), 2),
}


def by_pieces(mask):
    """The same mask, worked on as any other."""
    return mask & masks.dense(np.True_)


@pytest.fixture
def calls(monkeypatch):
    """The grids that the door is given, call by call."""
    seen, real = [], _core.attention
    names = [*pyattn.attention.__globals__["_Options"]._fields]

    def record(*arguments):
        seen.append(arguments[7:][names.index("grid")])
        return real(*arguments)

    monkeypatch.setattr(_core, "attention", record)
    return seen


@pytest.mark.parametrize("name", MASKS)
def test_accuracy(each_isa, name, rng):
    mask = MASKS[name]
    pixels = mask.shape[0]
    for dtype in (np.float32, np.float64):
        arrays = operands(rng, 1, 2, pixels, pixels, d=12, dv=9, kv_heads=1, dtype=dtype)
        exact = Exact(*arrays, mask=np.asarray(mask))
        for isa in each_isa():
            errors = exact.errors(*attention(*arrays, mask=mask, return_lse=True))
            assert max(errors.out, errors.lse) < LIMIT, (isa, dtype)


@pytest.mark.parametrize("name", ["neighborhood", "dilated", "shifted"])
def test_with_biases(each_isa, name, rng):
    """Tables of any kind, relative ones above all, with caps, sinks and hidden pairs."""
    mask = MASKS[name]
    pixels = mask.shape[0]
    height, width = (len(axis.spans) for axis in mask.grid)
    arrays = operands(rng, 2, 4, pixels, pixels, d=8, dv=5, kv_heads=2)
    table = rng.standard_normal((4, 2 * height - 1, 2 * width - 1)).astype(np.float32)
    table[:, height - 1, width] = -np.inf
    dense = rng.standard_normal((2, 1, pixels, pixels)).astype(np.float16)
    for bias in (
        biases.relative_grid(table, (height, width)),
        biases.relative_grid(table[:, ::-1, ::-1], (height, width)),
        biases.dense(dense) + rng.standard_normal(pixels),
    ):
        more = {"softcap": 3.0, "sinks": rng.standard_normal(4)}
        exact = Exact(*arrays, mask=np.asarray(mask), bias=bias, **more)
        for isa in each_isa():
            got = attention(*arrays, mask=mask, bias=bias, return_lse=True, **more)
            errors = exact.errors(*got)
            assert max(errors.out, errors.lse) < LIMIT, isa


def test_halves(isa, rng):
    mask = MASKS["neighborhood"]
    arrays = operands(rng, 1, 2, 437, 437, d=10, dv=7, dtype=np.float16)
    widened = [a.astype(np.float32) for a in arrays]
    expected = attention(*widened, mask=mask)
    assert_same_bits(attention(*arrays, mask=mask), expected.astype(np.float16))
    assert_same_bits(attention(widened[0], *arrays[1:], mask=mask), expected)


@pytest.mark.parametrize("name", ["neighborhood", "dilated", "shifted", "small windows"])
def test_hidden_keys_cannot_be_seen(isa, name, rng):
    """Bit by bit, of every pixel that does not see the poison; the others are poisoned."""
    mask = MASKS[name]
    pixels = mask.shape[0]
    arrays = operands(rng, 1, 1, pixels, pixels, d=6, dv=4)
    expected = attention(*arrays, mask=mask)
    victim = pixels // 2
    hit = np.arange(pixels) == victim
    for which in (1, 2):
        changed = list(arrays)
        changed[which] = poisoned(arrays[which], hit[None, None], "nan")
        got = attention(*changed, mask=mask)
        sees = np.asarray(mask)[:, victim]
        assert_same_bits(got[:, :, ~sees], expected[:, :, ~sees])
        assert np.isnan(got[:, :, sees]).all()


@pytest.mark.parametrize("name", ["oblong", "causal and dilated", "cut off"])
def test_same_bits(isa, name, rng):
    """For any threads, layout and strides, and for a batch element alone."""
    mask = MASKS[name]
    pixels = mask.shape[0]
    arrays = operands(rng, 3, 4, pixels, pixels, d=8, kv_heads=2)
    expected = attention(*arrays, mask=mask)
    before = pyattn.get_num_threads()
    for threads in (1, 2, 3, 7):
        pyattn.set_num_threads(threads)
        assert_same_bits(attention(*arrays, mask=mask), expected)
    pyattn.set_num_threads(before)
    for element in range(3):
        one = [a[element : element + 1] for a in arrays]
        assert_same_bits(attention(*one, mask=mask), expected[element : element + 1])
    swapped = [np.ascontiguousarray(a.swapaxes(1, 2)) for a in arrays]
    assert_same_bits(
        attention(*swapped, mask=mask, layout="blhd"), np.ascontiguousarray(expected.swapaxes(1, 2))
    )
    backwards = [a[..., ::-1, ::-1].copy()[..., ::-1, ::-1] for a in arrays]
    out = np.empty((*expected.shape[:-1], 16), np.float32)[..., ::2]
    attention(*backwards, mask=mask, out=out)
    assert_same_bits(out.copy(), expected)


def test_grouped_heads_are_repeated_heads(isa, rng):
    """Also where a head alone has few rows in a patch, and the group has many."""
    for name in ("small windows", "neighborhood", "shifted"):
        pixels = MASKS[name].shape[0]
        q, k, v = operands(rng, 1, 6, pixels, pixels, kv_heads=2)
        expected = attention(q, k.repeat(3, 1), v.repeat(3, 1), mask=MASKS[name])
        assert_same_bits(attention(q, k, v, mask=MASKS[name]), expected)


def test_biases_of_other_grids(each_isa, rng):
    """Whose lines are not those of the mask, with a dilation."""
    for grid, other in (((6, 8), (8, 6)), ((9, 4), (3, 12)), ((4, 9), (36, 1))):
        mask = masks.neighborhood(grid, 2, dilation=(2, 3), causal=True)
        table = rng.standard_normal((2, 2 * other[0] - 1, 2 * other[1] - 1)).astype(np.float32)
        bias = biases.relative_grid(table, other)
        arrays = operands(rng, 1, 2, 36 if 9 in grid else 48, 36 if 9 in grid else 48, d=6)
        exact = Exact(*arrays, mask=np.asarray(mask), bias=bias)
        for isa in each_isa():
            assert exact.out_error(attention(*arrays, mask=mask, bias=bias)) < LIMIT, isa


GOOD = np.array([[0, 2], [0, 3], [1, 4], [2, 4]])
FORGED = {
    "past the end": (np.add(GOOD, [0, 1]), 1),
    "before the start": (np.subtract(GOOD, [1, 0]), 1),
    "without itself": (GOOD[::-1], 1),
    "falls": (np.array([[0, 4], [0, 3], [0, 4], [0, 4]]), 1),
    "another remainder": (GOOD, 2),
    "empty": (GOOD[:0], 1),
    "shorter": (GOOD[:3], 1),
    "one axis": (GOOD.ravel(), 1),
    "int32": (GOOD.astype(np.int32), 1),
    "step 0": (GOOD, 0),
    "a step below 0": (GOOD, -1),
    "a step past the end": (np.array([[i, i + 1] for i in range(4)]), 6),
    "a step far past the end": (np.array([[i, i + 1] for i in range(4)]), 2**63 - 1),
}


@pytest.mark.parametrize("what", FORGED)
def test_the_door_refuses(what, rng):
    """A mask that somebody made himself, or a pickle that is not what it was."""
    good = masks.neighborhood((4, 4), 3)
    arrays = operands(rng, 1, 1, 16, 16, d=4)
    for axes in ((FORGED[what], good.grid.columns), (good.grid.lines, FORGED[what])):
        forged = type(good)(good.name, good.shape, good.pieces, axes)
        with pytest.raises(SystemError, match="a bug in pyattn"):
            attention(*arrays, mask=forged)
        kept = type(good)(good.name, good.shape, good.pieces, ((GOOD, 1), (GOOD, 1)))
        attention(*arrays, mask=kept)


def test_what_was_checked_stays(rng):
    """The arrays of a mask may change while a call runs: the call has copies."""
    mask = pickle.loads(pickle.dumps(masks.neighborhood((100, 100), 7)))
    arrays = operands(rng, 1, 8, 10_000, 10_000, d=16)
    expected = attention(*arrays, mask=mask)

    def change():
        mask.grid.lines.spans[:, 1] = 2**30
        changed.set()

    changed = threading.Event()
    timer = threading.Timer(0.002, change)
    timer.start()
    while not changed.is_set():
        try:
            got = attention(*arrays, mask=mask)
        except SystemError:
            break
        assert_same_bits(got, expected)
    timer.join()


def test_in_place(rng):
    """`out` may be an input: then the result is computed aside."""
    q, k, v = operands(rng, 1, 2, 437, 437, d=8)
    expected = attention(q, k, v, mask=MASKS["neighborhood"])
    attention(q, k, v, mask=MASKS["neighborhood"], out=v)
    assert_same_bits(v, expected)


def test_when(calls, rng):
    """By patches if there is a mask over a grid and nothing beside it but tables; else the same
    result in another order."""
    mask = MASKS["shifted"]
    pixels = mask.shape[0]
    arrays = operands(rng, 2, 2, pixels, pixels, d=4)
    table = biases.dense(rng.standard_normal((pixels, pixels)).astype(np.float32))
    other = masks.dense(rng.random((pixels, pixels)) < 0.9)
    attention(*arrays, mask=mask)
    attention(*arrays, mask=mask, bias=table, softcap=2.0, sinks=np.zeros(2), query_start=3)
    assert [grid is None for grid in calls] == [False, False]
    calls.clear()
    for options in (
        {"causal": True},
        {"window": (30, None)},
        {"key_lengths": [pixels, 9]},
        {"bias": biases.alibi([0.5, 0.25])},
        {"mask": mask & other},
        {"mask": mask | other},
        {"mask": masks.grid_windows(12, 5), "short": 12},
        {"mask": masks.grid_windows((6, 8), (9, 8)), "short": 48},  # sees everything
    ):
        short = options.pop("short", pixels)
        cut = [a[:, :, :short] for a in arrays]
        options = {"mask": mask} | options
        got = attention(*cut, **options)
        exact = Exact(*cut, **options | {"mask": np.asarray(options["mask"])})
        assert exact.out_error(got) < LIMIT
    assert calls == [None] * 8


def test_pieces_say_the_same(rng):
    """The two ways to work on a mask, as far apart as rounding."""
    for mask in MASKS.values():
        pixels = mask.shape[0]
        arrays = operands(rng, 1, 1, pixels, pixels, d=5)
        a, b = (attention(*arrays, mask=m) for m in (mask, by_pieces(mask)))
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6)


def test_weights_and_the_strongest(rng):
    """They are not worked on in patches, and agree."""
    mask = MASKS["neighborhood"]
    q, k, v = operands(rng, 1, 2, 437, 437, d=8)
    weights = pyattn.attention_weights(q, k, mask=mask)
    assert ((weights > 0) == np.asarray(mask)).all()
    np.testing.assert_allclose(weights @ v, attention(q, k, v, mask=mask), rtol=0, atol=3e-6)
    _, strongest = pyattn.attention_topk(q, k, 49, mask=mask)
    np.testing.assert_allclose(strongest.sum(-1), 1, rtol=1e-6)
