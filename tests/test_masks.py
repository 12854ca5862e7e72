"""Structured masks: what they say, in three ways that must agree - loops over queries and keys
written here, `numpy.asarray`, and the terms that the kernel is given."""

import copy
import pickle
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyattn import biases, masks

# The terms, by the contract with the kernel. Also for test_biases.py.


def lookup(a, queries, keys):
    """A table (..., Lo, Li, So, Si) as (..., L, S)."""
    outer_q, inner_q, outer_k, inner_k = a.shape[-4:]
    assert outer_q * inner_q >= queries and outer_k * inner_k >= keys
    out = np.empty((*a.shape[:-4], queries, keys), a.dtype)
    for i, j in product(range(queries), range(keys)):
        out[..., i, j] = a[..., i // inner_q, i % inner_q, j // inner_k, j % inner_k]
    return out


def owner(a):
    while getattr(a, "base", None) is not None:
        a = a.base
    return a


def assert_inside_its_buffer(a):
    """Every element lies within the memory that keeps the array alive."""
    if isinstance(owner(a), np.ndarray):
        low, high = np.lib.array_utils.byte_bounds(a)
        first, last = np.lib.array_utils.byte_bounds(owner(a))
        assert first <= low and high <= last


def test_outside_is_seen():
    line = np.arange(9)[2:7]
    for shape, strides in [((6, 5), (8, 0)), ((10,), (8,)), ((4,), (-8,)), ((2, 2), (0, 72))]:
        view = np.lib.stride_tricks.as_strided(line, shape, strides)
        inside = shape == (6, 5)
        if inside:
            assert_inside_its_buffer(view)
        else:
            with pytest.raises(AssertionError):
                assert_inside_its_buffer(view)


def seen_by(kind, a, scores):
    """What one term allows, as bool (..., H, L, S)."""
    *leading, queries, keys = scores
    assert_inside_its_buffer(a)
    if kind == "table":
        assert a.dtype == bool and a.shape[:-4] == tuple(leading)
        return lookup(a, queries, keys)
    seen = np.zeros(scores, bool)
    if kind == "span":
        assert a.dtype == np.int64 and a.dtype.isnative and a.shape == (*leading, queries, 2)
        assert a.strides[-1] == a.itemsize
        assert a.min() >= 0 and a.max() <= keys
        for at in np.ndindex(*leading, queries):
            seen[at][a[at][0] : max(a[at])] = a[at][0] < a[at][1]
        return seen
    assert kind == "match" and a.dtype == np.int32 and a.shape == (*leading, queries + keys)
    for at in np.ndindex(*leading, queries, keys):
        *batch, i, j = at
        seen[at] = a[(*batch, i)] == a[(*batch, queries + j)]
    return seen


def from_terms(found, scores):
    """All terms of clause -1, and all of some other clause if there is one."""
    seen = np.ones(scores, bool)
    clauses = {}
    for kind, clause, a in found:
        if clause == -1:
            seen &= seen_by(kind, a, scores)
        else:
            clauses.setdefault(clause, np.ones(scores, bool))
            clauses[clause] &= seen_by(kind, a, scores)
    assert sorted(clauses) == list(range(len(clauses)))
    if clauses:
        seen &= np.any(list(clauses.values()), axis=0)
    return seen


def scores_of(shape, heads=2, queries=3, keys=4):
    """The shape of scores that a mask of this shape is for; extents of 1 are stretched."""
    full = [1] * (4 - len(shape)) + list(shape)
    for axis, extent in enumerate((2, heads, queries, keys)):
        if full[axis] == 1:
            full[axis] = extent
    return tuple(full)


def assert_says(mask, expected):
    """asarray, terms, a pickle: all the same as `expected`, itself in the shape of the mask."""
    expected = np.asarray(expected)
    assert mask.shape == expected.shape and mask.dtype == bool
    dense = np.asarray(mask)
    assert dense.dtype == bool and dense.flags.writeable
    np.testing.assert_array_equal(dense, expected)
    for scores in {scores_of(expected.shape), scores_of(expected.shape, 1, 1, 1)}:
        found = masks.mask_terms("attention", mask, scores)
        if expected.size:  # else just the kinds count
            np.testing.assert_array_equal(
                from_terms(found, scores), np.broadcast_to(expected, scores)
            )
    again = pickle.loads(pickle.dumps(mask))
    assert again.shape == mask.shape and repr(again) == repr(mask)
    np.testing.assert_array_equal(np.asarray(again), expected)


def by_rule(rule, queries, keys):
    """The dense mask of ``rule(i, j)``."""
    seen = np.zeros((queries, keys), bool)
    for i, j in product(range(queries), range(keys)):
        seen[i, j] = rule(i, j)
    return seen


def kinds(mask):
    return [kind for kind, _, _ in masks.mask_terms("attention", mask, scores_of(mask.shape))]


SIZES = [(1, 1), (1, 5), (5, 1), (4, 4), (7, 3), (3, 7), (0, 3), (3, 0), (0, 0)]


# Each kind.


@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (3, 5), (1, 5), (3, 1), (2, 3, 5), (2, 1, 3, 5), (0, 5), (2, 0)]
)
def test_dense(rng, shape):
    array = rng.random(shape) < 0.5
    assert_says(masks.dense(array), array)


def test_dense_with_any_strides(rng):
    array = rng.random((6, 4, 9, 10)) < 0.5
    views = [
        array[::-2, :, ::-1, ::3],
        array.swapaxes(-1, -2),
        np.asfortranarray(array[0, 0]),
        np.broadcast_to(array[0, 0, 0], (4, 9, 10)),
        array.view("u1").astype([("a", "u1"), ("b", "?")])["b"],
    ]
    for view in views:
        assert_says(masks.dense(view), view)
    assert_says(masks.dense(views[0].tolist()), views[0])


def test_tables_are_not_copied(rng):
    array = rng.random((2, 1, 6, 6)) < 0.5
    array.flags.writeable = False
    for mask in (masks.dense(array), masks.dense(array[..., ::-1, ::2]), masks.blocks(array, 4)):
        for kind, clause, term in masks.mask_terms("f", mask, scores_of(mask.shape)):
            assert (kind, clause) == ("table", -1)
            assert np.shares_memory(term, array)
    array.flags.writeable = True
    mask = masks.dense(array)
    array[...] = ~array
    np.testing.assert_array_equal(np.asarray(mask), array)


def check_segments(q, k):
    leading = np.broadcast_shapes(q.shape[:-1], k.shape[:-1])
    q, k = (np.broadcast_to(x, leading + x.shape[-1:]) for x in (q, k))
    expected = np.zeros((*leading, q.shape[-1], k.shape[-1]), bool)
    for at in np.ndindex(expected.shape):
        *batch, i, j = at
        expected[at] = int(q[(*batch, i)]) == int(k[(*batch, j)])
    mask = masks.segments(q, k)
    assert_says(mask, expected[..., None, :, :] if leading else expected)
    return mask


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("leading", [((), ()), ((2,), ()), ((), (2,)), ((2, 1), (3,)), ((0,), ())])
def test_segments(rng, queries, keys, leading):
    q = rng.integers(0, 3, (*leading[0], queries))
    k = rng.integers(0, 3, (*leading[1], keys))
    check_segments(q, k)
    check_segments(np.sort(q), np.sort(k))


@pytest.mark.parametrize(
    "q, k, expected",
    [
        ([0, 0, 1, 2], [0, 1, 1, 2], ["span"]),
        ([2, 0, 1, 9], [0, 1, 1, 2], ["span"]),  # queries in any order, an id that no key has
        ([1, 1, 2, 2, 0], [1, 1, 2, 2, 0], ["span"]),  # padding with 0 at the end
        ([0, 1, 0], [0, 1, 0], ["match"]),  # id 0 comes back
        ([[0, 1, 1], [0, 1, 0]], [[0, 1, 1], [0, 1, 0]], ["match"]),
        ([4, 4], [4, 4, 4], []),
        ([-1, 5], [5, -1, 5], ["match"]),
    ],
)
def test_segments_become(q, k, expected):
    mask = check_segments(np.array(q), np.array(k))
    assert kinds(mask) == expected


@pytest.mark.parametrize(
    "q, k",
    [
        (np.array([2**40, -(2**50), 2**40]), np.array([2**40, 7, 2**40])),
        (np.array([-(2**40), 5, -(2**40)]), np.array([-(2**40), 0, -(2**40)])),
        (np.array([2**63, 2**64 - 1, 2**63], "u8"), np.array([2**63, 0, 2**63], "u8")),
        (np.array([2**64 - 1, 2**63, 5], "u8"), np.array([-1, 5, -1])),  # a float64 would not do
        (np.array([2**63 + 1, 2**63, 2**63 + 1], "u8"), np.array([2**63 + 1, 3, 2**63], "u8")),
        (np.array([255, 1, 255], "u1"), np.array([-1, 1, -1], "i1")),
        (np.array([1, 2, 1], ">i4"), np.array([1, 2, 1], ">u2")),
        (np.array([2**31, -(2**31), 2**31]), np.array([-(2**31), 2**31, -(2**31)])),
    ],
)
def test_ids_of_any_integer_type(q, k):
    check_segments(q, k)


def test_long_segments(rng):
    """More keys than a sort that is not stable would leave in order."""
    k = np.repeat(rng.permutation(9), rng.integers(1, 40, 9))
    assert kinds(check_segments(rng.integers(0, 10, 30), k)) == ["span"]
    assert kinds(check_segments(rng.integers(0, 10, 30), rng.permutation(k))) == ["match"]


def test_segments_of_themselves():
    assert_says(masks.segments([3, 3, 1]), check_segments(np.array([3, 3, 1]), np.array([3, 3, 1])))


@pytest.mark.parametrize("ends", [[0], [0, 0], [0, 1], [0, 3, 3, 4, 9], np.array([0, 2, 5], "u1")])
def test_documents(ends):
    ends = np.asarray(ends)
    total = int(ends[-1])
    number = [sum(int(end) <= i for end in ends) for i in range(total)]
    mask = masks.documents(ends)
    assert_says(mask, by_rule(lambda i, j: number[i] == number[j], total, total))
    if total > 1:
        assert kinds(mask) == ["span"]


@pytest.mark.parametrize("queries, keys", SIZES)
def test_prefix_lm(queries, keys):
    lengths = np.arange(keys + 1)
    each = [
        by_rule(lambda i, j, n=n: j < n or j <= i + keys - queries, queries, keys) for n in lengths
    ]
    for n in lengths:
        assert_says(masks.prefix_lm(int(n), queries, keys), each[n])
    assert_says(masks.prefix_lm(lengths, queries, keys), np.array(each)[:, None])
    if queries == keys:
        assert_says(masks.prefix_lm(0, queries), np.tri(queries, dtype=bool))
    if queries and keys:
        assert kinds(masks.prefix_lm(keys, queries, keys)) == []


@pytest.mark.parametrize("queries, keys", [*SIZES, (12, 17), (17, 12)])
@pytest.mark.parametrize("window", [(None, None), (0, 0), (1, None), (None, 0), (2, 1)])
@pytest.mark.parametrize("dilation", [1, 2, 3, 50, 2**62])
def test_dilated(queries, keys, window, dilation):
    left, right = window

    def rule(i, j):
        steps, rest = divmod(j - (i + keys - queries), dilation)
        return rest == 0 and (left is None or -left <= steps) and (right is None or steps <= right)

    mask = masks.dilated(queries, keys, window=window, dilation=dilation)
    assert_says(mask, by_rule(rule, queries, keys))
    if queries >= 12 and dilation <= 3:
        spans = [] if window == (None, None) else ["span"]
        assert kinds(mask) == spans + (["table"] if dilation > 1 else [])
    if queries == keys:
        assert repr(masks.dilated(queries, window=window, dilation=dilation)) == repr(mask)


def test_dilated_without_limit_hides_nothing():
    assert kinds(masks.dilated(5, 9)) == []
    assert kinds(masks.dilated(5, 9, window=(2**62, 2**62))) == []


@pytest.mark.parametrize("leading", [(), (2,), (2, 1), (1, 3)])
@pytest.mark.parametrize("queries, keys, size", [(5, 7, (2, 3)), (4, 4, 2), (1, 9, 4), (9, 1, 4)])
def test_blocks(rng, leading, queries, keys, size):
    bq, bk = (size, size) if isinstance(size, int) else size
    table = rng.random((*leading, -(-queries // bq), -(-keys // bk))) < 0.5
    expected = np.repeat(np.repeat(table, bq, axis=-2), bk, axis=-1)
    assert_says(masks.blocks(table, size), expected)
    assert_says(masks.blocks(table, size, queries, keys), expected[..., :queries, :keys])
    assert_says(masks.blocks(table.tolist(), size, keys=keys), expected[..., :keys])


def test_blocks_of_nothing():
    for shape in [(0, 2), (2, 0), (0, 0)]:
        table = np.zeros(shape, bool)
        assert_says(masks.blocks(table, 3), np.zeros((shape[0] * 3, shape[1] * 3), bool))


# Grids: the neighbours as lists of places, in the manner of the papers.


def neighbours(x, extent, kernel, dilation, causal):
    """NATTEN's window along one axis: the nearest of the places with the remainder of x."""
    same = [y for y in range(extent) if y % dilation == x % dilation]
    at = same.index(x)
    if causal:
        return same[max(at - kernel + 1, 0) : at + 1]
    start = min(max(at - kernel // 2, 0), len(same) - kernel)
    assert start >= 0
    return same[start : start + kernel]


def check_grid(mask, extents, axes):
    """`axes`: for each axis, the places that each place sees."""
    pixels = list(product(*(range(n) for n in extents)))

    def rule(i, j):
        return all(b in axis[a] for axis, a, b in zip(axes, pixels[i], pixels[j], strict=True))

    assert_says(mask, by_rule(rule, len(pixels), len(pixels)))


@pytest.mark.parametrize(
    "grid, kernel, dilation, causal",
    [
        (1, 1, 1, False),
        (7, 3, 1, False),
        (7, 3, 2, False),
        (11, 3, 3, False),
        ((11,), 5, 2, False),
        (9, 4, 2, True),
        (5, 9, 4, True),
        ((4, 5), 3, 1, False),
        ((5, 4), (5, 1), 1, False),
        ((5, 4), (1, 3), 1, False),
        ((5, 3), 3, 1, False),
        ((7, 6), 3, 2, False),
        ((7, 6), 3, (2, 1), False),
        ((6, 7), 3, (1, 2), False),
        ((6, 7), (3, 5), (2, 1), (True, False)),
        ((6, 7), (3, 5), (2, 1), (False, True)),
        ((4, 4), 2, 2, True),
        ((4, 3), 2**62, (2, 2**62), True),
        ((5, 3), (3, 3), 1, (True, False)),
        ((1, 7), (1, 3), 1, False),
        ((7, 1), (3, 1), 2, (False, True)),
        ((1, 1), 1, 1, False),
        ((0, 4), 3, 1, False),
        ((4, 0), 3, 1, True),
        (0, 3, 1, False),
    ],
)
def test_neighborhood(grid, kernel, dilation, causal):
    extents = (grid,) if isinstance(grid, int) else grid
    each = [x if isinstance(x, tuple) else (x,) * len(extents) for x in (kernel, dilation, causal)]
    axes = [
        [neighbours(x, n, k, d, c) for x in range(n)]
        for n, k, d, c in zip(extents, *each, strict=True)
    ]
    mask = masks.neighborhood(grid, kernel, dilation=dilation, causal=causal)
    check_grid(mask, extents, axes)
    if causal is False and 0 not in extents:
        assert set(np.asarray(mask).sum(axis=1)) == {np.prod(each[0])}


@pytest.mark.parametrize(
    "grid, kernel, dilation, expected",
    [
        (9, 3, 1, ["span"]),
        (9, 3, 2, ["span", "match"]),
        (9, 9, 1, []),
        ((4, 5), 3, 1, ["span", "table"]),
        ((4, 5), (3, 5), 1, ["span"]),
        ((4, 5), (4 - 1, 5), 1, ["span"]),
        ((5, 5), (5, 3), 1, ["span", "table"]),
        ((7, 7), 3, 2, ["span", "table", "match"]),
        ((1, 9), (1, 3), 2, ["span", "match"]),
        ((3, 5), (3, 5), 1, []),
    ],
)
def test_neighborhood_becomes(grid, kernel, dilation, expected):
    if np.ndim(kernel) == 0 and np.ndim(grid):
        kernel = (kernel,) * len(grid)
    if np.ndim(grid) and grid[0] == 1:
        dilation = (1, dilation)
    assert kinds(masks.neighborhood(grid, kernel, dilation=dilation)) == expected


@pytest.mark.parametrize("grid, window, shift", [
    (7, 3, 0), (7, 3, 2), ((6, 9), 3, 0), ((6, 9), 3, 1), ((5, 7), (2, 4), (1, 3)), ((4, 4), 9, 0),
    ((4, 4), 9, 8), ((1, 6), (1, 2), (0, 1)), ((6, 1), 2, 1), ((0, 3), 2, 1), (0, 2, 1),
    ((6, 4), (2, 4), 0), ((6, 4), (3, 9), 0), ((1, 4), 9, 0), ((7, 4), (2, 5), (1, 0)),
])  # fmt: skip
def test_grid_windows(grid, window, shift):
    extents = (grid,) if isinstance(grid, int) else grid
    each = [x if isinstance(x, tuple) else (x,) * len(extents) for x in (window, shift)]
    axes = []
    for n, width, offset in zip(extents, *each, strict=True):
        cuts = [0, *range(offset, n + width, width)]
        parts = [range(a, min(b, n)) for a, b in pairwise(cuts) if a < b]
        axes.append([next(part for part in parts if x in part) for x in range(n)])
    check_grid(masks.grid_windows(grid, window, shift), extents, axes)


def test_grid_windows_are_those_of_swin():
    """As the Swin code does it: roll, cut, mask by regions, roll back."""
    height, width, size, shift = 8, 12, 4, 2
    region = np.zeros((height, width), int)
    cuts = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
    for n, (rows, columns) in enumerate(product(cuts, cuts)):
        region[rows, columns] = n
    y, x = np.mgrid[:height, :width]
    rolled = (y // size) * (width // size) + x // size + 100 * region
    own = np.roll(rolled, (shift, shift), axis=(0, 1)).ravel()
    mask = masks.grid_windows((height, width), size, shift)
    np.testing.assert_array_equal(np.asarray(mask), own[:, None] == own)


def test_large_masks_are_small():
    """None of these makes an L x S array, nor does looking at it."""
    n = 1 << 17
    for mask in [
        masks.documents([0, 5, n]),
        masks.segments(np.arange(n) % 7),
        masks.prefix_lm([3, n], n),
        masks.dilated(n, window=(9, 9), dilation=4),
        masks.blocks(np.eye(n // 256, dtype=bool), 256),
        masks.neighborhood(n, 9, dilation=3),
        masks.neighborhood((n // 4, 4), 3, dilation=(5, 1)),
        masks.grid_windows((256, 512), 8, 4),
        masks.dense(np.broadcast_to(True, (n, n))) & masks.documents([0, n]),
    ]:
        masks.mask_terms("attention", mask, (2, 3, n, n))
        assert len(repr(mask).splitlines()) == 17


# Composition.

L, S = 5, 6
LEAVES = {
    "wide": masks.dense(np.arange(S) % 2 == 0),
    "tall": masks.dense((np.arange(L) % 3 > 0)[:, None]),
    "batch": masks.dense(np.arange(2 * L * S).reshape(2, 1, L, S) % 4 > 1),
    "heads": masks.dense(np.arange(3 * L * S).reshape(3, L, S) % 5 > 1),
    "all": masks.dilated(L, S),
    "dilated": masks.dilated(L, S, window=(1, 1), dilation=2),
    "match": masks.segments([0, 1, 0, 2, 2], [0, 1, 0, 1, 2, 2]),
    "batch match": masks.segments([[0, 1, 0, 2, 2], [1, 1, 2, 1, 1]], [0, 1, 0, 1, 2, 2]),
    "span": masks.prefix_lm([2, 0], L, S),
    "one key": masks.segments([0, 1, 0, 2, 2], [0]),
    "one query": masks.segments([1], [0, 1, 1, 1, 2, 2]),
    "array": np.arange(L * S).reshape(L, S) % 3 > 0,
}
TREES = st.recursive(
    st.sampled_from(sorted(LEAVES)),
    lambda inner: st.tuples(inner, st.sampled_from("&|"), inner),
    max_leaves=7,
)


def build(tree):
    """(mask or array, dense array, an OR of ANDs of names) of a tree."""
    if isinstance(tree, str):
        return LEAVES[tree], np.asarray(LEAVES[tree]), [{tree}]
    (a, x, p), operator, (b, y, q) = build(tree[0]), tree[1], build(tree[2])
    if operator == "&":
        return a & b, x & y, [m | n for m in p for n in q]
    return a | b, x | y, p + q


@given(TREES)
def test_trees(tree):
    """Random trees against Boolean algebra on dense arrays."""
    try:
        mask, expected, _ = build(tree)
    except ValueError as error:
        assert "at most 16 and 24 are possible" in str(error)
        return
    if isinstance(mask, np.ndarray):
        mask = masks.dense(mask)
    # Laws of `_simplest` may drop a mask, but not its shape.
    assert mask.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(mask), expected)
    scores = (2, 3, L, S)
    seen = from_terms(masks.mask_terms("attention", mask, scores), scores)
    np.testing.assert_array_equal(seen, np.broadcast_to(expected, scores))
    again = pickle.loads(pickle.dumps(mask))
    assert len(again.clauses()) == len(mask.clauses())
    np.testing.assert_array_equal(np.asarray(again), expected)


def leaf(n):
    return masks.dense(np.arange(30).reshape(5, 6) % (n + 2) > 0)


def clauses_of(found):
    return [(kind, clause) for kind, clause, _ in found]


def test_clauses():
    a, b, c, d = (leaf(n) for n in range(4))
    assert a.clauses() == ((a,),)
    assert ((a | b) & (c | d)).clauses() == ((a, c), (a, d), (b, c), (b, d))
    assert (a & b & c).clauses() == ((a, b, c),)
    assert (a | (b & c)).clauses() == ((a,), (b, c))
    # Laws of lattices.
    assert (a & a).clauses() == (a | a).clauses() == ((a,),)
    assert (a | (a & b)).clauses() == ((a,),)
    assert (a & (a | b)).clauses() == ((a,),)
    assert ((a | b) & (b | a)).clauses() == ((a,), (b,))
    assert ((a & b) | (b & a)).clauses() == ((a, b),)


def test_terms_common_to_all_clauses_come_once():
    a, b, c = (leaf(n) for n in range(3))
    scores = (1, 1, 5, 6)
    assert clauses_of(masks.mask_terms("f", a & b, scores)) == [("table", -1)] * 2
    assert clauses_of(masks.mask_terms("f", a | b, scores)) == [("table", 0), ("table", 1)]
    found = masks.mask_terms("f", a & (b | c), scores)
    assert clauses_of(found) == [("table", -1), ("table", 0), ("table", 1)]


def test_a_clause_that_sees_everything():
    everything = masks.dilated(5, 6)
    a, b = leaf(0), leaf(1)
    scores = (1, 1, 5, 6)
    assert masks.mask_terms("f", everything, scores) == []
    assert masks.mask_terms("f", everything | a, scores) == []
    assert clauses_of(masks.mask_terms("f", everything & a, scores)) == [("table", -1)]
    assert clauses_of(masks.mask_terms("f", b & (a | everything), scores)) == [("table", -1)]


def test_arrays_on_either_side():
    mask, array = leaf(0), np.asarray(leaf(1))
    both, either = np.asarray(mask) & array, np.asarray(mask) | array
    for left, right in [
        (mask, array),
        (array, mask),
        (mask, array.tolist()),
        (array.tolist(), mask),
    ]:
        assert_says(left & right, both)
        assert_says(left | right, either)
    for one in (True, np.True_, np.array(True)):
        assert_says(mask & one, np.asarray(mask))
        assert_says(one | mask, np.ones((5, 6), bool))
    in_place = array
    in_place = mask & in_place
    assert isinstance(in_place, masks.Mask)


def test_shapes_combine():
    batch = masks.segments(np.zeros((3, 4), int), np.zeros((3, 5), int))
    heads = masks.dense(np.ones((2, 4, 5), bool))
    assert (batch & heads).shape == (3, 2, 4, 5)
    # What is dropped still counts for the shape.
    assert (heads | (heads & batch)).shape == (3, 2, 4, 5)
    assert np.asarray(heads | (heads & batch)).shape == (3, 2, 4, 5)


def test_limits():
    many = [leaf(n) for n in range(16)]
    any_of = many[0]
    for mask in many[1:]:
        any_of = any_of | mask
    assert len(any_of.clauses()) == 16
    wrong = (
        "mask | mask: as an OR of ANDs this mask has 17 clauses of 17 masks in all, at most 16 and "
        "24 are possible: make some of it dense with numpy.asarray(mask)"
    )
    with pytest.raises(ValueError) as error:
        any_of | leaf(0)
    assert str(error.value) == wrong
    all_of = many[0]
    for mask in [*many[1:], *(leaf(n) for n in range(8))]:
        all_of = all_of & mask
    assert len(all_of.clauses()[0]) == 24
    with pytest.raises(ValueError, match=r"^mask & mask: .* 1 clauses of 25 masks in all"):
        all_of & leaf(0)
    dense = masks.dense(np.asarray(any_of)) | leaf(0)
    assert_says(dense, np.asarray(any_of) | np.asarray(leaf(0)))


# Objects.


@pytest.mark.parametrize("mask", [LEAVES["match"], LEAVES["span"] & LEAVES["array"]])
def test_immutable(mask):
    with pytest.raises(AttributeError):
        mask.shape = (1, 1)
    with pytest.raises((AttributeError, TypeError)):  # the latter: CPython's frozen slots
        mask.something = 1
    assert mask == mask and mask != copy.copy(mask) and len({mask, mask}) == 1
    assert repr(copy.deepcopy(mask)) == repr(mask)


def test_asarray():
    mask = masks.documents([0, 1, 3])
    assert np.asarray(mask, dtype=float).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    assert np.array(mask, copy=True).dtype == bool
    with pytest.raises(ValueError, match=r"^a mask has no dense array to give without a copy$"):
        np.array(mask, copy=False)


def test_truth():
    for use in (lambda m: m and m, lambda m: not m, lambda m: bool(m)):
        with pytest.raises(ValueError) as error:
            use(masks.documents([0, 3]))
        assert str(error.value) == ("the truth value of a mask is ambiguous: combine with & and |")


def test_pickles_are_small():
    assert len(pickle.dumps(masks.blocks(np.eye(4, dtype=bool), 10**6))) < 2000
    assert len(pickle.dumps(masks.dilated(1000, dilation=2))) < 4000


def test_pictures():
    assert repr(masks.segments([0, 1, 0], [0, 1])) == "<mask segments (3, 2)>\n#.\n.#\n#."
    assert repr(masks.segments([[0, 1], [0, 0]])) == "<mask segments (2, 1, 2, 2)>\n#.\n.#"
    assert repr(masks.dense([True, False])) == "<mask dense (2,)>\n#."
    assert repr(masks.dense(True)) == "<mask dense ()>\n#"
    assert repr(masks.documents([0])) == "<mask documents (0, 0)>"
    a, b = masks.documents([0, 1, 2]), masks.dilated(2, window=(None, 0))
    assert repr(a & b | np.ones((2, 2), bool)) == (
        "<mask documents & dilated | dense (2, 2)>\n##\n##"
    )
    causal = repr(masks.dilated(32, 96, window=(None, 0))).splitlines()
    assert causal[0] == "<mask dilated (32, 96)>"
    assert causal[1:] == ["#" * (32 + n) + "+" + "." * (15 - n) for n in range(16)]
    lines = repr(masks.dilated(1000, 77, window=(3, 3), dilation=4)).splitlines()[1:]
    assert [len(line) for line in lines] == [48] * 16


# Errors, word for word.

IDS = np.zeros((2, 5), int)
CASES = [
    (lambda: masks.dense(np.eye(3, dtype=int)), TypeError,
     "dense: array must be boolean (True = may attend), got int64: use array.astype(bool)"),
    (lambda: masks.dense(np.eye(3)), TypeError,
     "dense: array must be boolean (True = may attend), got float64: use bias="),
    (lambda: masks.dense(np.ma.masked_array([True])), TypeError,
     "dense: array is a masked array; its mask would be ignored: use array.filled(False)"),
    (lambda: masks.segments([0.0]), TypeError,
     "segments: query_ids must be integers, got float64"),
    (lambda: masks.segments([0], [True]), TypeError,
     "segments: key_ids must be integers, got bool"),
    (lambda: masks.segments(np.ma.masked_array([0])), TypeError,
     "segments: query_ids must not be a masked array"),
    (lambda: masks.segments(3), ValueError,
     "segments: query_ids needs at least 1 axis (queries), got ()"),
    (lambda: masks.segments([3], 3), ValueError,
     "segments: key_ids needs at least 1 axis (keys), got ()"),
    (lambda: masks.segments(IDS, np.zeros((3, 7), int)), ValueError,
     "segments: leading axes do not broadcast: query_ids (2, 5), key_ids (3, 7)"),
    (lambda: masks.documents([0, 5, 3]), ValueError,
     "documents: cu_seqlens must be non-decreasing: element 2 (3) < element 1 (5)"),
    (lambda: masks.documents(np.array([0, 5, 3], "u1")), ValueError,
     "documents: cu_seqlens must be non-decreasing: element 2 (3) < element 1 (5)"),
    (lambda: masks.documents([1, 5]), ValueError,
     "documents: cu_seqlens must start at 0: element 0 is 1"),
    (lambda: masks.documents([]), TypeError,
     "documents: cu_seqlens must be integers, got float64"),
    (lambda: masks.documents(np.zeros(0, int)), ValueError,
     "documents: cu_seqlens must have one axis of n + 1 entries, the first 0, got (0,)"),
    (lambda: masks.documents([[0, 1]]), ValueError,
     "documents: cu_seqlens must have one axis of n + 1 entries, the first 0, got (1, 2)"),
    (lambda: masks.documents(np.array([0, 2**64 - 1], "u8")), ValueError,
     f"documents: cu_seqlens[-1] must be at most {2**62}, got {2**64 - 1}"),
    (lambda: masks.prefix_lm([0, 1, -1], 2, 4), ValueError,
     "prefix_lm: prefix_lengths[2] = -1 is outside [0, 4]"),
    (lambda: masks.prefix_lm(5, 9, 4), ValueError,
     "prefix_lm: prefix_lengths = 5 is outside [0, 4]"),
    (lambda: masks.prefix_lm(np.array([[1], [2**64 - 1]], "u8"), 9, 4), ValueError,
     f"prefix_lm: prefix_lengths[1, 0] = {2**64 - 1} is outside [0, 4]"),
    (lambda: masks.prefix_lm(1.0, 9), TypeError,
     "prefix_lm: prefix_lengths must be integers, got float64"),
    (lambda: masks.prefix_lm(1, 9.0), TypeError,
     "prefix_lm: queries must be an integer, got float"),
    (lambda: masks.prefix_lm(1, 9, True), TypeError,
     "prefix_lm: keys must be an integer, got bool"),
    (lambda: masks.dilated(-1), ValueError,
     "dilated: queries must be at least 0, got -1"),
    (lambda: masks.dilated(2**63), ValueError,
     f"dilated: queries must be at most {2**62}, got {2**63}"),
    (lambda: masks.dilated(4, dilation=0), ValueError,
     "dilated: dilation must be at least 1, got 0"),
    (lambda: masks.dilated(4, window=3), ValueError,
     "dilated: window must be (left, right), two numbers or None, got 3"),
    (lambda: masks.dilated(4, window=(0, -1)), ValueError,
     "dilated: window[1] must be at least 0, got -1"),
    (lambda: masks.dilated(4, window=(0.5, 1)), TypeError,
     "dilated: window[0] must be an integer, got float"),
    (lambda: masks.blocks([[1, 0]], 2), TypeError,
     "blocks: table must be boolean (True = may attend), got int64: use table.astype(bool)"),
    (lambda: masks.blocks([True], 2), ValueError,
     "blocks: table needs at least 2 axes (query blocks, key blocks), got (1,)"),
    (lambda: masks.blocks(np.ones((3, 4), bool), (4, 2), 10, 9), ValueError,
     "blocks: 10 queries and 9 keys in blocks of (4, 2) need a table of (3, 5) blocks, got (3, 4)"),
    (lambda: masks.blocks(np.ones((3, 4), bool), 0), ValueError,
     "blocks: block_size must be at least 1, got 0"),
    (lambda: masks.blocks(np.ones((3, 4), bool), (1, 2, 3)), ValueError,
     "blocks: block_size must be one number or two, got (1, 2, 3)"),
    (lambda: masks.neighborhood((4, 4, 4), 3), ValueError,
     "neighborhood: grid must be W, (W,) or (height, width), got (4, 4, 4)"),
    (lambda: masks.neighborhood("4", 3), TypeError,
     "neighborhood: grid must be an integer, got str"),
    (lambda: masks.neighborhood((4, -4), 3), ValueError,
     "neighborhood: grid must be at least 0, got -4"),
    (lambda: masks.neighborhood((4, 4), 2), ValueError,
     "neighborhood: kernel_size must be odd, or else it has no centre, got 2"),
    (lambda: masks.neighborhood((4, 4), 5), ValueError,
     "neighborhood: kernel_size * dilation (5 * 1) exceeds the extent 4 of the grid"),
    (lambda: masks.neighborhood((9, 4), 3, dilation=2), ValueError,
     "neighborhood: kernel_size * dilation (3 * 2) exceeds the extent 4 of the grid"),
    (lambda: masks.neighborhood((4, 4), (3, 3, 3)), ValueError,
     "neighborhood: kernel_size must be one number or one per axis of the grid (4, 4), "
     "got (3, 3, 3)"),
    (lambda: masks.neighborhood((4, 4), 3, dilation=0), ValueError,
     "neighborhood: dilation must be at least 1, got 0"),
    (lambda: masks.neighborhood((4, 4), 3, causal=1), TypeError,
     "neighborhood: causal must be True or False, got int"),
    (lambda: masks.grid_windows((4, 4), 0), ValueError,
     "grid_windows: window must be at least 1, got 0"),
    (lambda: masks.grid_windows((4, 4), 2, 2), ValueError,
     "grid_windows: shift must be less than the window (2), got 2"),
    (lambda: masks.grid_windows((4, 4), 2, (0, -1)), ValueError,
     "grid_windows: shift must be at least 0, got -1"),
    # operators
    (lambda: leaf(0) & np.ones((5, 6)), TypeError,
     "mask & array: array must be boolean (True = may attend), got float64: use bias="),
    (lambda: np.ones((5, 6), int) & leaf(0), TypeError,
     "array & mask: array must be boolean (True = may attend), got int64: use array.astype(bool)"),
    (lambda: leaf(0) | 1, TypeError,
     "mask | array: array must be boolean (True = may attend), got int64: use array.astype(bool)"),
    (lambda: "x" | leaf(0), TypeError,
     "array | mask: array must be boolean (True = may attend), got <U1"),
    (lambda: leaf(0) & None, TypeError,
     "mask & array: array must be boolean (True = may attend), got object"),
    (lambda: leaf(0) | biases.alibi([1.0]), TypeError,
     "mask | array: array is a structured bias: use bias="),
    (lambda: leaf(0) & np.ones((5, 7), bool), ValueError,
     "mask & mask: shapes (5, 6) and (5, 7) do not broadcast"),
    (lambda: leaf(0) | masks.documents([0, 5]), ValueError,
     "mask | mask: shapes (5, 6) and (5, 5) do not broadcast"),
    # as an argument of attention
    (lambda: masks.as_mask("attention", np.eye(3, dtype=int)), TypeError,
     "attention: mask must be boolean (True = may attend), got int64: use mask.astype(bool)"),
    (lambda: masks.as_mask("attention", np.eye(3, dtype="f2")), TypeError,
     "attention: mask must be boolean (True = may attend), got float16: use bias="),
    (lambda: masks.as_mask("attention", np.ma.masked_array([True])), TypeError,
     "attention: mask is a masked array; its mask would be ignored: use mask.filled(False)"),
    (lambda: masks.as_mask("attention", biases.alibi([1.0])), TypeError,
     "attention: mask is a structured bias: use bias="),
    (lambda: masks.mask_terms("attention", masks.dense(np.ones((4, 5), bool)), (1, 2, 4, 6)),
     ValueError, "attention: mask (4, 5) does not broadcast to the scores (1, 2, 4, 6) "
     "[batch, heads, queries, keys]"),
    (lambda: masks.mask_terms("attention", masks.documents([0, 4]), (2, 4, 6)),
     ValueError, "attention: mask (4, 4) does not broadcast to the scores (2, 4, 6) "
     "[..., heads, queries, keys]"),
    (lambda: masks.mask_terms("attention", masks.prefix_lm([1, 2], 4), (2, 4, 4)),
     ValueError, "attention: mask (2, 1, 4, 4) does not broadcast to the scores (2, 4, 4) "
     "[..., heads, queries, keys]"),
    (lambda: masks.mask_terms("attention", masks.prefix_lm([1, 2], 4), (1, 2, 4, 4)),
     ValueError, "attention: mask (2, 1, 4, 4) does not broadcast to the scores (1, 2, 4, 4) "
     "[batch, heads, queries, keys]"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", CASES, ids=[c[2][:60] for c in CASES])
def test_error(call, kind, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == message
    assert error.type is kind


def test_as_mask():
    mask = leaf(0)
    assert masks.as_mask("attention", mask) is mask
    assert_says(masks.as_mask("attention", [[True, False]]), [[True, False]])


def test_functions_are_documented():
    for module in (masks, biases):
        for name in module.__all__:
            doc = getattr(module, name).__doc__
            assert doc.splitlines()[0].endswith("."), name
            assert "Examples\n    --------" in doc, name
            if name[0].islower():
                for section in ("Parameters", "Returns", "Raises"):
                    assert f"{section}\n    ---" in doc, (name, section)


def test_only_tables_are_looked_at_again():
    ids, ends, lengths = np.array([3, 1, 3]), np.array([0, 2, 5]), np.array([1, 2])
    found = [masks.segments(ids), masks.documents(ends), masks.prefix_lm(lengths, 3)]
    before = [np.asarray(mask) for mask in found]
    for array in (ids, ends, lengths):
        array[...] = 0
    for mask, dense in zip(found, before, strict=True):
        np.testing.assert_array_equal(np.asarray(mask), dense)
