"""The graph of a call: its tasks, what they read, and how partial results meet.

For every block of queries one task for each chunk of keys that some row of it may see, then a tree
of merges over these, in the order of the keys. Which tasks there are and who is merged with whom
depends on the chunks alone: the bits depend neither on the scheduler nor on who is ready first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from pyattn._structured import Structured
from pyattn.dask._chunks import arranged
from pyattn.dask._cut import Where, cut_bias, cut_mask
from pyattn.dask._plan import Block, Plan
from pyattn.dask._tasks import merged

Key = tuple[Any, ...]
Tasks = dict[Key, Any]


def results(plan: Plan, token: str) -> tuple[da.Array, da.Array]:
    """(out, lse) of the call. `token` stands for all of it in the names of its tasks."""
    pairs = f"attention-pair-{token}"
    inputs = plan.query, plan.key, plan.value, plan.mask, plan.bias
    graph = HighLevelGraph.from_collections(
        pairs, _pairs(plan, pairs), [x for x in inputs if isinstance(x, da.Array)]
    )
    return (
        _half(plan, graph, pairs, 0, f"attention-{token}", plan.arranged_out),
        _half(plan, graph, pairs, 1, f"attention-lse-{token}", plan.arranged_lse),
    )


def _half(
    plan: Plan,
    graph: HighLevelGraph,
    pairs: str,
    half: int,
    name: str,
    arrange: Callable[[Sequence[Any], Any], tuple[Any, ...]],
) -> da.Array:
    """One of the two arrays whose blocks the pairs are."""
    tasks = {
        (name, *arrange(block, 0)): (getitem, (pairs, *block), half) for block in plan.blocks()
    }
    graph = HighLevelGraph({**graph.layers, name: tasks}, {**graph.dependencies, name: {pairs}})
    *by_head, _ = plan.axes.all()
    chunks = arrange(by_head, (plan.value.shape[-1],))
    return da.Array(graph, name, chunks, meta=np.empty((0,) * len(chunks), plan.query.dtype))


def _pairs(plan: Plan, name: str) -> Tasks:
    """Tasks that make (out, lse) of each block, under (name, *block)."""
    tasks: Tasks = {}
    for kind, x in (("mask", plan.mask), ("bias", plan.bias)):
        if isinstance(x, Structured):  # a node of its own goes to each worker once
            tasks[(f"{name}-{kind}",)] = x
    for block in plan.blocks():
        seen = plan.keys_seen(block)
        # The sinks go to the first chunk that there is: each row must have its sink once.
        parts = {
            (f"{name}-part", *block, n): (
                plan.part(block, n, with_sinks=n == seen[0]),
                *_inputs(plan, name, block, n),
            )
            for n in seen
        }
        if parts:
            tasks |= _tree(parts, name, block, plan.rules.layout)
        else:
            tasks[(name, *block)] = (plan.nothing(block),)
    return tasks


def _tree(parts: Tasks, name: str, block: Block, layout: str) -> Tasks:
    """The parts of a block, in the order of their keys, and the merges that make them one.

    Chunks 2 n and 2 n + 1 are merged first, whether or not there are others: so a row has the same
    bits in a block that sees more than it does.
    """
    tasks, level, height = dict(parts), {part[-1]: part for part in parts}, 0
    while len(level) > 1:
        height += 1
        above: dict[int, Key] = {}
        for n, second in level.items():
            first = above.setdefault(n // 2, second)
            if first is not second:
                above[n // 2] = both = (f"{name}-merge", *block, height, n // 2)
                tasks[both] = (merged, layout, first, second)
        level = above
    tasks[(name, *block)] = tasks.pop(*level.values())
    return tasks


def _inputs(plan: Plan, name: str, block: Block, keys: int) -> list[Any]:
    """Of one part: keys of query, key, value, mask and bias; for structured ones a task."""
    layout = plan.rules.layout
    *leading, heads, _ = block
    of_keys = (*leading, plan.key_heads[heads], keys)
    places = (
        (plan.query, arranged(layout, plan.query.ndim, block, 0)),
        (plan.key, arranged(layout, plan.key.ndim, of_keys, 0)),
        (plan.value, arranged(layout, plan.value.ndim, of_keys, 0)),
    )
    where = plan.where((*block, keys))

    def term(x: Any, kind: str, cut: Callable[[Any, Where], Any]) -> Any:
        if isinstance(x, Structured):
            return partial(cut, where=where), (f"{name}-{kind}",)
        return None if x is None else _key(x, (*block, keys))

    terms = term(plan.mask, "mask", cut_mask), term(plan.bias, "bias", cut_bias)
    return [*(_key(array, place) for array, place in places), *terms]


def _key(array: da.Array, place: Sequence[int]) -> Key:
    """Of the block at that place, of whose first axes the array may lack some."""
    own = place[len(place) - array.ndim :]
    return (array.name, *(n if of > 1 else 0 for n, of in zip(own, array.numblocks, strict=True)))
