"""The same bits, however the arrays lie in memory, whoever computes, and whatever else there is."""

import numpy as np
import pytest
from cases import HALVES
from support import (
    FEW_ROWS,
    FLOATS,
    OPTIONS,
    STRESS,
    alone,
    assert_same_bits,
    assert_strided_out_only,
    operands,
    options_for,
)

import pyattn
from pyattn import biases, masks

# batch, heads, kv_heads, queries, keys, d, dv: few long units (chunks in waves), many units,
# groups that share panels, and sizes that are no multiple of anything.
SHAPES = [
    (1, 1, 1, 1, 2600, 32, 32),
    (2, 2, 1, 70, 1100, 17, 33),
    (3, 30, 30, 5, 130, 8, 8),
    (2, 6, 2, 129, 129, 19, 5),
]


def attend(arrays, options, **more):
    return pyattn.attention(*arrays, return_lse=True, **options, **more)


CALLS = [(shape, name) for shape in SHAPES for name in options_for(shape[3], shape[4])]


@pytest.fixture(params=CALLS, ids=str)
def call(request, rng):
    """(query, key, value), options"""
    (batch, heads, kv_heads, queries, keys, d, dv), name = request.param
    arrays = operands(rng, batch, heads, queries, keys, d, dv, kv_heads)
    return arrays, OPTIONS[name](batch, heads, queries, keys)


def all_of_it(arrays, options):
    """What all functions return."""
    few = min(5, arrays[1].shape[-2])
    return (
        *attend(arrays, options),
        pyattn.attention_weights(*arrays[:2], **options),
        *pyattn.attention_topk(*arrays[:2], few, **options),
    )


def test_threads(each_isa, call):
    before = pyattn.get_num_threads()
    try:
        for _ in each_isa():
            pyattn.set_num_threads(1)
            expected = all_of_it(*call)
            for threads in (2, 7):  # more than this machine may have, and no power of two
                pyattn.set_num_threads(threads)
                assert_same_bits(all_of_it(*call), expected)
    finally:
        pyattn.set_num_threads(before)


def test_run_after_run(each_isa, call):
    """And the inputs stay what they are."""
    arrays, options = call
    given = [*arrays, *(a for a in options.values() if isinstance(a, np.ndarray))]
    copies = [a.copy() for a in given]
    for _ in each_isa():
        expected = attend(arrays, options)
        for _ in range(100 if STRESS else 3):
            assert_same_bits(attend(arrays, options), expected)
    for a, b in zip(given, copies, strict=True):
        assert_same_bits(a, b)


def shifted(a, by):
    """The same array, `by` bytes past a 64-byte boundary."""
    raw = np.zeros(a.nbytes + 256, np.uint8)
    start = -raw.ctypes.data % 64 + by
    moved = raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


@pytest.mark.parametrize("dtype", FLOATS)
def test_addresses(isa, dtype, rng):
    q, k, v = operands(rng, 2, 2, 20, 70, d=19, dv=33, dtype=dtype)
    expected = attend((q, k, v), {"causal": True})
    size = np.dtype(dtype).itemsize
    for by in (*range(8), *(n * size for n in range(16))):
        moved = [shifted(a, by) for a in (q, k, v)]
        assert_same_bits(attend(moved, {"causal": True}), expected)
        for i, a in enumerate(moved):  # each alone: relative alignment must not matter either
            one = [q, k, v]
            one[i] = a
            assert_same_bits(attend(one, {"causal": True}), expected)
        out = shifted(expected[0], by)
        out[...] = np.nan
        assert_same_bits(attend((q, k, v), {"causal": True}, out=out), expected)


def strided(a, steps):
    """The same values, every `steps`-th element of a larger array."""
    large = np.full([n * s for n, s in zip(a.shape, steps, strict=True)], np.nan, a.dtype)
    view = large[tuple(slice(None, None, s) for s in steps)]
    view[...] = a
    return view


def field(a):
    """A field of a structured array: strides that are no multiple of the item size."""
    record = np.zeros(a.shape, np.dtype([("pad", "u1"), ("x", a.dtype), ("more", "u2")]))
    record["x"] = a
    return record["x"]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def mapped(a, path):
    a.tofile(path)
    return np.memmap(path, a.dtype, "r", shape=a.shape)


class Wrapped:
    """What another library's array looks like."""

    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
    "reversed rows": lambda a: a[:, :, ::-1].copy()[:, :, ::-1],
    "reversed columns": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every third column": lambda a: strided(a, (1, 1, 1, 3)),
    "every second row": lambda a: strided(a, (1, 1, 2, 1)),
    "every second of all": lambda a: strided(a, (2, 2, 2, 2)),
    "length first": lambda a: a.transpose(2, 0, 1, 3).copy().transpose(1, 2, 0, 3),
    "size before length": lambda a: a.swapaxes(2, 3).copy().swapaxes(2, 3),
    "middle of a wider array": lambda a: np.pad(a, ((1, 1), (2, 1), (3, 0), (1, 2)))[
        1:-1, 2:-1, 3:, 1:-2
    ],
    "field of records": field,
    "read-only": read_only,
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "other library": Wrapped,
    "nested lists": lambda a: a.tolist() if a.dtype in (np.float64, bool) else a,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(isa, layout, dtype, rng):
    arrays = operands(rng, 2, 4, 21, 70, d=18, dv=35, kv_heads=2, dtype=dtype)
    expected = attend(arrays, {"causal": True})
    changed = [LAYOUTS[layout](a) for a in arrays]
    assert_same_bits(attend(changed, {"causal": True}), expected)
    weights = pyattn.attention_weights(*changed[:2])
    assert_same_bits(weights, pyattn.attention_weights(*arrays[:2]))
    for i in range(3):
        mixed = [*arrays[:i], changed[i], *arrays[i + 1 :]]
        assert_same_bits(attend(mixed, {"causal": True}), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [bool, *HALVES, *FLOATS])
def test_layouts_of_masks_and_biases(isa, layout, dtype, rng):
    """Read where they lie, they are what their contiguous copies are."""
    arrays = operands(rng, 2, 4, 21, 70, d=5, dv=3, kv_heads=2)
    name = "mask" if dtype is bool else "bias"
    whole = rng.standard_normal((2, 4, 21, 70))
    whole[rng.random(whole.shape) < 0.3] = -np.inf
    whole = (whole > -0.5) if dtype is bool else whole.astype(dtype)
    for index in ((), (0,), (0, 0), (slice(0, 1), slice(None), slice(0, 1))):
        a = whole[index]
        expected = attend(arrays, {name: a.copy()})
        four = (np.newaxis,) * (4 - a.ndim)  # the layouts are of four axes
        changed = LAYOUTS[layout](a[four]) if hasattr(a, "ndim") else a
        assert_same_bits(attend(arrays, {name: changed}), expected)
        if isinstance(changed, np.ndarray) and a.ndim == 2:
            assert_same_bits(attend(arrays, {name: changed[0, 0]}), expected)


def test_strides_of_zero(isa, rng):
    """A broadcast view is the copy that it stands for."""
    arrays = operands(rng, 2, 4, 21, 70, d=5, dv=3)
    for dtype in (bool, np.float16, np.float64):
        name = "mask" if dtype is bool else "bias"
        a = rng.standard_normal((2, 4, 21, 70))
        a = (a > -0.5) if dtype is bool else a.astype(dtype)
        for zero in ((0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2), (0, 1, 2, 3)):
            one = a[tuple(slice(0, 1) if axis in zero else slice(None) for axis in range(4))]
            expected = attend(arrays, {name: np.broadcast_to(one, a.shape).copy()})
            assert_same_bits(attend(arrays, {name: np.broadcast_to(one, a.shape)}), expected)
            assert_same_bits(attend(arrays, {name: one}), expected)


def test_addresses_of_masks_and_biases(isa, rng):
    arrays = operands(rng, 1, 2, 20, 75, d=5, dv=3)
    for dtype in (bool, np.float16, *FLOATS):
        name = "mask" if dtype is bool else "bias"
        a = rng.standard_normal((20, 75))
        a = (a > -0.5) if dtype is bool else a.astype(dtype)
        expected = attend(arrays, {name: a})
        for by in range(0, 70, 3):
            assert_same_bits(attend(arrays, {name: shifted(a, by)}), expected)


def test_any_byte_but_0_is_true(isa, rng):
    arrays = operands(rng, 1, 2, 20, 140, d=5, dv=3)
    for step in (1, 3):
        raw = rng.integers(0, 256, (20, 140 * step)).astype(np.uint8)[:, ::step]
        raw[rng.random(raw.shape) < 0.3] = 0
        mask = raw.view(bool) if step == 1 else raw.base.view(bool)[:, ::step]
        assert_same_bits(attend(arrays, {"mask": mask}), attend(arrays, {"mask": raw != 0}))


def test_memory_mapped_file(isa, tmp_path, rng):
    arrays = operands(rng, 2, 2, 21, 70)
    files = [mapped(a, tmp_path / str(i)) for i, a in enumerate(arrays)]
    assert_same_bits(attend(files, {}), attend(arrays, {}))
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=arrays[0].shape)
    assert pyattn.attention(*files, out=out) is out
    assert_same_bits(np.asarray(out), pyattn.attention(*arrays))


def test_broadcast_is_a_copy_without_the_copy(isa, rng):
    q, k, v = operands(rng, 3, 4, 21, 70)
    for zero in ((0,), (1,), (2,), (3,), (0, 1), (0, 1, 2, 3)):
        index = tuple(slice(0, 1) if axis in zero else slice(None) for axis in range(4))
        views = [np.broadcast_to(a[index], a.shape) for a in (q, k, v)]
        assert_same_bits(attend(views, {}), attend([a.copy() for a in views], {}))
    # Leading axes broadcast by themselves.
    assert_same_bits(
        attend((q, k[:1], v[0]), {}),
        attend((q, np.repeat(k[:1], 3, 0), np.repeat(v[:1], 3, 0)), {}),
    )


def test_both_orders_of_axes(each_isa, call):
    arrays, options = call
    swapped = [a.swapaxes(-3, -2) for a in arrays]
    copies = [a.copy() for a in swapped]
    for _ in each_isa():
        out, lse = attend(arrays, options)
        got, got_lse = attend(swapped, options, layout="blhd")
        assert_same_bits(got, out.swapaxes(-3, -2))
        assert_same_bits(got_lse, lse)
        got, _ = attend(copies, options, layout="blhd")
        assert_same_bits(got, out.swapaxes(-3, -2))
        assert_same_bits(
            pyattn.attention_weights(*swapped[:2], layout="blhd", **options),
            pyattn.attention_weights(*arrays[:2], **options),
        )


def test_fewer_axes(isa, rng):
    q, k, v = operands(rng, 1, 1, 21, 70)
    out, lse = attend((q, k, v), {"causal": True})
    assert_same_bits(attend((q[0], k[0], v[0]), {"causal": True}), (out[0], lse[0]))
    flat = [a[0, 0] for a in (q, k, v)]
    assert_same_bits(attend(flat, {"causal": True}), (out[0, 0], lse[0, 0]))
    assert_same_bits(attend((flat[0], k, v[0]), {"causal": True}), (out, lse))
    five = [a.reshape(1, 1, *a.shape) for a in (q, k, v)]
    assert_same_bits(attend(five, {"causal": True}), (out[None, None], lse[None, None]))


# --- a row depends on itself and on what it may see, on nothing else


def test_alone_in_the_batch(each_isa, call):
    """Every batch element, and every head, alone."""
    arrays, options = call
    batch, heads = arrays[0].shape[:2]
    group = heads // arrays[1].shape[1]
    parts = []
    for b in range(batch):
        at = np.s_[b : b + 1]
        parts.append((at, [a[at] for a in arrays], alone(options, b)))
        for h in {0, 2, heads - 1} & set(range(heads)):
            g = h // group
            q = arrays[0][b : b + 1, h : h + 1]
            one = q, *(a[b : b + 1, g : g + 1] for a in arrays[1:])
            parts.append((np.s_[b : b + 1, h : h + 1], one, alone(options, b, h)))
    for _ in each_isa():
        out, lse = attend(arrays, options)
        for at, one, own in parts:
            assert_same_bits(attend(one, own), (out[at], lse[at]))


def test_grouped_heads_are_repeated_heads(each_isa, call):
    arrays, options = call
    q, k, v = arrays
    group = q.shape[1] // k.shape[1]
    many = q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    for _ in each_isa():
        assert_same_bits(attend(many, options), attend(arrays, options))


# Few rows and many: some of many, but not so few that they are few.
SOME_ROWS = {
    FEW_ROWS: ((0, 1), (1, 2), (3, 5), (0, 7), (7, 8)),
    200: ((0, 9), (1, 10), (47, 59), (191, 200), (30, 130), (150, 200)),
}
FEW_AND_MANY = pytest.mark.parametrize("queries", SOME_ROWS)


@FEW_AND_MANY
def test_row_alone(isa, queries, rng):
    """A causal row is the row by itself over the keys that it sees."""
    q, k, v = operands(rng, 1, 2, queries, 1100 + queries, d=8)
    out, lse = attend((q, k, v), {"causal": True})
    times = 1 if queries == FEW_ROWS else FEW_ROWS + 1  # the same row, to be many
    for i in {0, 1, 15, 47, 48, 100, queries - 2, queries - 1} & set(range(queries)):
        keys = 1100 + i + 1
        row = np.repeat(q[:, :, i : i + 1], times, axis=2)
        alone = attend((row, k[:, :, :keys], v[:, :, :keys]), {})
        whole = (np.repeat(x[:, :, i : i + 1], times, axis=2) for x in (out, lse))
        assert_same_bits(alone, tuple(whole))
    for a, b in SOME_ROWS[queries]:  # and so are several rows
        some = attend((q[:, :, a:b], k, v), {"causal": True, "query_start": 1100 + a})
        assert_same_bits(some, (out[:, :, a:b], lse[:, :, a:b]))


@pytest.mark.parametrize(
    "keys", [1, 2, 63, 64, 65, 511, 512, 513, 1000, 1023, 1024, 1025, 2048, 2049]
)
@pytest.mark.parametrize("rows", [3, 12])  # few, and many
def test_padding_changes_nothing(isa, keys, rows, rng):
    """More keys, all of them hidden: by key_lengths, and by being in the future."""
    q, k, v = operands(rng, 1, 2, rows, keys + 1100, d=8)
    alone = attend((q, k[:, :, :keys], v[:, :, :keys]), {})
    last = attend((q, k[:, :, :keys], v[:, :, :keys]), {"causal": True})
    for more in (1, 63, 64, 65, 512, 1024, 1100):
        padded = q, k[:, :, : keys + more], v[:, :, : keys + more]
        assert_same_bits(attend(padded, {"key_lengths": keys}), alone)
        first = attend(padded, {"causal": True, "query_start": keys - 1})
        assert_same_bits(first[0][:, :, :1], alone[0][:, :, :1])
        assert_same_bits(first[1][:, :, :1], alone[1][:, :, :1])
        assert_same_bits(attend(padded, {"causal": True, "query_start": keys - rows}), last)


def some_options(rng, heads, queries, keys):
    """All that depends on the row, in arrays that can be cut."""
    return {
        "mask": rng.random((queries, keys)) < 0.8,
        "bias": rng.standard_normal((heads, queries, keys)).astype(np.float16),
        "window": (900, 30),
        "softcap": 3.0,
        "sinks": np.linspace(-1, 1, heads),
    }


def cut(options, rows, keys):
    """`options` for some rows and the first `keys` keys."""
    bias = options["bias"][:, rows, :keys]
    return options | {"mask": options["mask"][rows, :keys], "bias": bias}


@FEW_AND_MANY
def test_some_rows_with_options(isa, queries, rng):
    """Rows by themselves are those rows of all, whatever lies beside and above them."""
    q, k, v = operands(rng, 1, 2, queries, 1300, d=8)
    options = some_options(rng, 2, queries, 1300)
    slopes = [0.5, 0.01]
    bias = biases.alibi(slopes) + options["bias"]
    out, lse = attend((q, k, v), options | {"bias": bias})
    for a, b in SOME_ROWS[queries]:
        own = cut(options, slice(a, b), 1300)
        own |= {"bias": biases.alibi(slopes) + own["bias"], "query_start": 1300 - queries + a}
        assert_same_bits(attend((q[:, :, a:b], k, v), own), (out[:, :, a:b], lse[:, :, a:b]))


@pytest.mark.parametrize("start", [0, 2**24 + 1, 2**25 + 3, -(2**25) - 1, 2**40 + 1])
@FEW_AND_MANY
def test_alibi_far_from_the_keys(isa, start, queries, rng):
    """Distances that float32 cannot hold are rounded alike, whatever else is computed with them."""
    q, k, v = operands(rng, 1, 2, queries, 300, d=8)
    ids = np.arange(300) >= 100  # every other row sees none of the first 100 keys
    rows = np.arange(queries) % 2
    options = {"bias": biases.alibi([1e-6, 3e-5]), "query_start": start}
    out, lse = attend((q, k, v), options | {"mask": masks.segments(rows, ids.astype(int))})
    for a, b in SOME_ROWS[queries]:
        own = {"mask": masks.segments(rows[a:b], ids.astype(int)), "query_start": start + a}
        got = attend((q[:, :, a:b], k, v), options | own)
        assert_same_bits(got, (out[:, :, a:b], lse[:, :, a:b]))


@pytest.mark.parametrize("keys", [1, 63, 64, 65, 512, 513, 1000, 1024, 1025])
def test_padding_changes_nothing_with_options(isa, keys, rng):
    q, k, v = operands(rng, 1, 2, 30, keys + 600, d=8)
    options = some_options(rng, 2, 30, keys + 600)
    expected = attend((q, k[:, :, :keys], v[:, :, :keys]), cut(options, slice(None), keys))
    for more in (1, 63, 64, 600):
        all_keys = keys + more
        padded = q, k[:, :, :all_keys], v[:, :, :all_keys]
        own = cut(options, slice(None), all_keys) | {"query_start": keys - 30}
        assert_same_bits(attend(padded, own | {"key_lengths": keys}), expected)
        own["mask"] = own["mask"] & (np.arange(all_keys) < keys)
        assert_same_bits(attend(padded, own), expected)
        own = cut(options, slice(None), all_keys) | {"query_start": keys - 30}
        own["bias"] = np.where(np.arange(all_keys) < keys, own["bias"], np.float16(-np.inf))
        assert_same_bits(attend(padded, own), expected)


def test_float32_and_float64_have_separate_kernels(isa, rng):
    q, k, v = operands(rng, 1, 1, 5, 70, dtype=np.float64)
    narrow = pyattn.attention(*(a.astype(np.float32) for a in (q, k, v)))
    assert np.abs(narrow - pyattn.attention(q, k, v)).max() > 1e-9


# --- out

OUTS = {
    "contiguous": lambda shape, dtype: np.full(shape, np.nan, dtype),
    "Fortran": lambda shape, dtype: np.full(shape, np.nan, dtype, order="F"),
    "reversed": lambda shape, dtype: np.full(shape, np.nan, dtype)[::-1, ::-1, ::-1, ::-1],
    "strided": lambda shape, dtype: np.full([2 * n for n in shape], np.nan, dtype)[
        ::2, 1::2, ::2, 1::2
    ],
    "field": lambda shape, dtype: np.zeros(shape, [("pad", "u1"), ("x", dtype), ("z", "u2")])["x"],
}


@pytest.mark.parametrize("form", OUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_out(isa, form, dtype, rng):
    for shape in ((1, 2, 5, 3), (2, 3, 21, 35), (1, 1, 49, 16)):
        batch, heads, queries, dv = shape
        arrays = operands(rng, batch, heads, queries, 70, dv=dv, dtype=dtype)
        out = OUTS[form](shape, dtype)
        got, lse = attend(arrays, {"causal": True}, out=out)
        assert got is out
        assert_same_bits((got, lse), attend(arrays, {"causal": True}))


@pytest.mark.parametrize("size", [1, 3, 16, 35])
def test_nothing_around_out_is_written(isa, size, rng):
    """1 KB of canaries before and after, and between rows and columns of a strided `out`."""
    for dtype in FLOATS:
        for queries in (1, 3, 16, 17, 49):
            arrays = operands(rng, 1, 2, queries, 20, dv=size, dtype=dtype)
            expected = pyattn.attention(*arrays)
            count = 1024 // expected.itemsize
            raw = np.full(2 * count + expected.size, 77, dtype)
            pyattn.attention(*arrays, out=raw[count:-count].reshape(expected.shape))
            assert_same_bits(raw[count:-count].reshape(expected.shape), expected)
            assert (raw[:count] == 77).all()
            assert (raw[-count:] == 77).all()

            assert_strided_out_only(arrays, expected)


def test_out_over_an_input(isa, rng):
    q, k, v = operands(rng, 1, 2, 70, 70)
    expected = attend((q, k, v), {"causal": True})
    for which in range(3):
        arrays = [q.copy(), k.copy(), v.copy()]
        out = arrays[which]
        assert_same_bits(attend(arrays, {"causal": True}, out=out), expected)
        arrays = [q.copy(), k.copy(), v.copy()]
        out = arrays[which][..., ::-1]
        assert_same_bits(attend(arrays, {"causal": True}, out=out), expected)
    # One buffer holds query and out, half a row apart.
    buffer = np.zeros(q.size + 8, np.float32)
    buffer[: q.size] = q.ravel()
    arrays = buffer[: q.size].reshape(q.shape), k, v
    out = buffer[8:].reshape(q.shape)
    assert_same_bits(attend(arrays, {"causal": True}, out=out), expected)


def test_out_over_a_mask_or_a_bias(isa, rng):
    """What is read for later rows must not have been overwritten by earlier ones."""
    q, k, v = operands(rng, 1, 2, 70, 64, d=16, dv=16)
    bias = rng.standard_normal((1, 2, 70, 64)).astype(np.float32)
    raw = rng.integers(0, 3, (1, 2, 70, 64)).astype(np.uint8)
    for name, array in (("bias", bias), ("mask", raw.view(bool))):
        expected = attend((q, k, v), {name: array.copy()})
        for part in (np.asarray, masks.dense if name == "mask" else biases.dense):
            own = array.copy()
            out = own.view(np.float32)[..., :16] if name == "mask" else own[..., 7:23]
            got = attend((q, k, v), {name: part(own)}, out=out)
            assert got[0] is out
            assert_same_bits((got[0].copy(), got[1]), expected)
    table = rng.standard_normal((2, 133)).astype(np.float32)
    for rows in (4, 9):  # a few, and more
        own = table.copy()
        bias = biases.relative(own[:, 70 - rows :], rows, 64)
        four = q[:, :, :rows], k, v
        expected = pyattn.attention(*four, bias=biases.relative(table[:, 70 - rows :], rows, 64))
        out = np.lib.stride_tricks.as_strided(own, (1, 2, rows, 8), (0, 532, 56, 4))
        got = pyattn.attention(*four[:2], v[..., :8], out=out, bias=bias)
        assert_same_bits(got.copy(), expected[..., :8])
