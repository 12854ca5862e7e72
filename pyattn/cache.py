"""The cache of keys and values for decoding: which tokens there are, and who may see them. How
pages are shared is in _pages.py, what a window keeps in _sliding.py."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pyattn import (
    _check,
    _check_cache,
    _check_multihead,
    _check_numbers,
    _check_positions,
    _core,
    _turning,
)
from pyattn._out import handed_over
from pyattn._pages import PLAIN_DTYPES, PagedSequence, PageFormat, hold, let_go, widened
from pyattn._pieces import as_plain
from pyattn._sliding import Sliding
from pyattn.attention import _attend, _given_order, _heads_first, _Options, _options, _result
from pyattn.positional import rope as turned

__all__ = ["KVCache"]

Method = TypeVar("Method", bound=Callable[..., Any])


class PageArrays(NamedTuple):
    """The tokens of one page, read-only: see `KVCache.pages`."""

    start: int
    keys: np.ndarray
    values: np.ndarray
    key_scales: np.ndarray | None
    value_scales: np.ndarray | None


class _Operand(NamedTuple):
    """What attention.py looks at of an array; the scores are always float32."""

    shape: tuple[int, ...]
    dtype: np.dtype = _check.FLOAT32


_NO_KEYS = _Operand((0, 0))


def _alone(method: Method) -> Method:
    """One call at a time: a second thread is refused at once, rather than let it see a cache that
    is being changed.

    Of two that come in the same instant one waits. That is the price of `with`, which Ctrl-C leaves
    no gap in: between an `acquire` and a `try` it would leave the cache in use for ever.
    """
    function = f"KVCache.{method.__name__}"

    @functools.wraps(method)
    def call(self: KVCache, *args: Any, **kwargs: Any) -> Any:
        if self._lock.locked():
            _check_cache.in_use(function)
        with self._lock:
            return method(self, *args, **kwargs)

    return call


class KVCache:
    """Keys and values of sequences that grow, in pages; attention of new queries over them.

    Pages are made as tokens come, and never moved. `fork` shares them, so that a common prefix is
    there once; a page is copied when one of several holders appends to it. Pages that nobody holds
    any more are freed at once. See docs/cache.md.

    Parameters
    ----------
    batch : int
        The number of sequences, each with a length of its own.
    kv_heads : int
    head_dim : int
        The size of a key.
    value_dim : int, optional
        The size of a value. Default `head_dim`.
    capacity : int, optional
        The most tokens a sequence may have; more are refused. Default: no limit. Takes no memory.
    dtype : {"float32", "float16", "bfloat16", "int8"}
        How numbers are kept; the same as NumPy dtypes work too. Halves are rounded to nearest even.
        int8 has a scale for each token and head: see Notes.
    page_size : int
        Tokens in a page, a multiple of 64. Does not change results.
    window : int, optional
        A token sees that many tokens before its own, as with ``window=(window, 0)`` of
        `pyattn.attention`, and no others but those of `keep_first`. Pages that no token will see
        any more are dropped by `append`: see Notes.
    keep_first : int, default 0
        With `window`: that many tokens from the beginning are seen by all after them.
    rope : RopeFrequencies, RopeTable or array_like of float, (pairs,), optional
        What turns keys by their positions as they are appended, and queries as they attend: see
        `pyattn.positional.rope`. Default: the caller has done it, or there is nothing to do.
    interleaved : bool, optional
        Which numbers are a pair, as of `pyattn.positional.rope`; needed with `rope`.

    Attributes
    ----------
    lengths : ndarray of int64, (batch,)
        How many tokens each sequence has had, dropped ones counted; a fresh array.
    nbytes : int
        Of all pages that this cache holds; of those it shares with itself, once.
    batch, kv_heads, head_dim, value_dim, capacity, dtype, page_size : as given
    window, keep_first, rope, interleaved : as given

    Raises
    ------
    TypeError, ValueError
        Sizes that are not positive whole numbers, an unknown dtype, settings that do not fit
        together.

    Notes
    -----
    int8: a key or value x of one token and head is kept as ``rint(x / scale)`` with ``scale =
    max(abs(x)) / 127``, in float32. Where x is not finite the scale is NaN, and all of it reads as
    NaN.

    With a window `append` drops whole pages: those in front of what the tokens just appended see,
    less `page_size` tokens for `rollback`. Besides the tokens of the last append, a sequence then
    takes less than ``window + 3 * page_size`` tokens, and the pages of the `keep_first` ones. Time
    goes by what is seen.

    A cache may be used by one call at a time. A fork is a cache of its own, for any other thread.
    Caches pickle, with what they hold; `copy.copy` and `copy.deepcopy` are `fork` of all rows.

    Kwon et al. 2023, "PagedAttention", arXiv 2309.06180, for pages; Xiao et al. 2023, arXiv
    2309.17453, for keeping the first tokens.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> rng = np.random.default_rng(0)
    >>> cache = pyattn.KVCache(2, 4, 64, dtype="bfloat16")
    >>> k, v = rng.standard_normal((2, 2, 4, 10, 64), dtype=np.float32)
    >>> cache.append(k, v)  # a prompt of 10 tokens, for both
    array([0, 0])
    >>> q = rng.standard_normal((2, 8, 10, 64), dtype=np.float32)  # 8 heads over 4
    >>> cache.attend(q).shape
    (2, 8, 10, 64)
    >>> cache.append(k[:, :, :1], v[:, :, :1])  # one token more
    array([10, 10])
    >>> cache.attend(q[:, :, :1]).shape
    (2, 8, 1, 64)
    >>> cache
    <KVCache 2 sequences, 22 tokens, 4 heads of 64, bfloat16>
    """

    def __init__(
        self,
        batch: int,
        kv_heads: int,
        head_dim: int,
        *,
        value_dim: int | None = None,
        capacity: int | None = None,
        dtype: Any = "float32",
        page_size: int = 256,
        window: int | None = None,
        keep_first: int = 0,
        rope: Any = None,
        interleaved: bool | None = None,
    ) -> None:
        function, whole = "KVCache", _check_numbers.whole
        self.batch = whole(function, "batch", batch)
        self.kv_heads = whole(function, "kv_heads", kv_heads, 1)
        self.head_dim = whole(function, "head_dim", head_dim, 1)
        self.value_dim = self.head_dim
        if value_dim is not None:
            self.value_dim = whole(function, "value_dim", value_dim, 1)
        self.capacity = None if capacity is None else whole(function, "capacity", capacity, 1)
        self.dtype = _check_cache.dtype(function, dtype)
        self.page_size = _check_cache.page_size(function, page_size)
        self._format = PageFormat(
            self.kv_heads, self.page_size, self.head_dim, self.value_dim, PLAIN_DTYPES[self.dtype]
        )
        sliding = _check_cache.sliding(function, window, keep_first)
        self._sliding = None if sliding is None else Sliding(*sliding, self.page_size)
        self.interleaved = _check_multihead.interleaved(function, rope, interleaved)
        self.rope = _turning.frequencies(function, rope, self.head_dim)
        _check_positions.several_axes(function, None, getattr(self.rope, "axis_count", 1))
        # Replaced as a whole, and by nothing else tokens come or go: what fails changes nothing.
        self._sequences = [PagedSequence()] * self.batch
        self._lock = threading.Lock()

    def __del__(self) -> None:
        # Not let_go: when the interpreter ends, names of modules are gone. And if __init__ failed,
        # there are no sequences.
        for sequence in self.__dict__.get("_sequences", ()):
            for page in sequence.pages:
                page.holders.pop()

    @property
    def window(self) -> int | None:
        return None if self._sliding is None else self._sliding.left

    @property
    def keep_first(self) -> int:
        return 0 if self._sliding is None else self._sliding.first

    @property
    def lengths(self) -> np.ndarray:
        return np.array([sequence.length for sequence in self._sequences], np.int64)

    @property
    def nbytes(self) -> int:
        pages = {page for sequence in self._sequences for page in sequence.pages}
        return sum(a.nbytes for page in pages for a in page.arrays())

    def __repr__(self) -> str:
        size = f"{self.head_dim}"
        if self.value_dim != self.head_dim:
            size += f" (values {self.value_dim})"
        kinds = [
            (self.window is not None, f"window {self.window}"),
            (self.keep_first, f"first {self.keep_first} kept"),
            (self.rope is not None, "rope"),
            (True, self.dtype),
        ]
        return (
            f"<KVCache {self.batch} sequence{'s' * (self.batch != 1)}, {sum(self.lengths)} tokens, "
            f"{self.kv_heads} head{'s' * (self.kv_heads > 1)} of {size}, "
            f"{', '.join(text for there, text in kinds if there)}>"
        )

    @_alone
    def append(
        self, key: Any, value: Any, *, lengths: Any = None, rows: Any = None, layout: str = "bhld"
    ) -> np.ndarray:
        """Append tokens to sequences.

        Parameters
        ----------
        key : array_like, (n, kv_heads, L, head_dim)
            float32, float16 or bfloat16, any strides: of all sequences, or of those in `rows`. With
            ``layout="blhd"`` (n, L, kv_heads, head_dim).
        value : array_like, (n, kv_heads, L, value_dim)
            As `key`.
        lengths : int or (n,) ints, optional
            Only the first ``lengths[i]`` of the L tokens are appended; the others are padding.
        rows : (n,) ints, optional
            Which sequences, each at most once. Default: all.
        layout : {"bhld", "blhd"}

        Returns
        -------
        ndarray of int64, (n,)
            Where the new tokens begin: the lengths before. After a call with `lengths` this is the
            `query_start` of the same tokens' queries.

        Raises
        ------
        TypeError, ValueError
            Another dtype or shape, a sequence that does not exist or is full.
        MemoryError
        RuntimeError
            Another thread is using the cache.

        In all of these cases nothing has changed.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(3, 2, 8)
        >>> x = np.ones((3, 2, 5, 8), np.float32)
        >>> cache.append(x, x, lengths=[5, 2, 0])
        array([0, 0, 0])
        >>> cache.append(x[:1], x[:1], rows=[1])
        array([2])
        >>> cache.lengths
        array([5, 7, 0])
        """
        function = "KVCache.append"
        rows = self._rows(function, rows, distinct=True)
        sizes = self.head_dim, self.value_dim
        k, v = _check_cache.tokens(function, key, value, layout, len(rows), self.kv_heads, sizes)
        most = k.shape[2]
        counts = [most] * len(rows)
        if lengths is not None:
            counts = _check.per_batch(function, "lengths", lengths, k.shape[:1], 0, most).tolist()
        starts = [self._sequences[b].length for b in rows]
        if self.capacity is not None:
            _check_cache.within_capacity(function, rows, starts, counts, self.capacity)
        if self.rope is not None:
            k = self._turned(k, starts, counts)
        self._store(as_plain(k), as_plain(v), rows, counts)
        return np.array(starts, np.int64)

    def _store(
        self, k: np.ndarray, v: np.ndarray, rows: Sequence[int], counts: Sequence[int]
    ) -> None:
        sequences, gone = self._sequences.copy(), []
        for b, count in zip(rows, counts, strict=True):
            if count:
                sequences[b], replaced = sequences[b].grown(count, self._format)
                gone += replaced
        for b, keys, values, count in zip(rows, k, v, counts, strict=True):
            if not count:
                continue
            start, page_size = self._sequences[b].length, self.page_size
            sequences[b].write(start, keys[:, :count], values[:, :count], page_size)
            if self._sliding is not None:
                more = self._sliding.droppable(start) - sequences[b].dropped
                if more > 0:
                    sequences[b], dropped = sequences[b].without(self._sliding.kept, more)
                    gone += dropped
        self._sequences = sequences
        let_go(gone)

    @_alone
    def attend(
        self,
        query: Any,
        *,
        rows: Any = None,
        causal: bool = True,
        query_start: Any = None,
        mask: Any = None,
        bias: Any = None,
        window: tuple[int | None, int | None] | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Any = None,
        layout: str = "bhld",
        return_lse: bool = False,
        out: np.ndarray | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Attention of queries over the tokens of their sequences, as of `pyattn.attention`.

        Parameters
        ----------
        query : array_like, (n, H, L, head_dim)
            float32, float16 or bfloat16, whatever the cache keeps; ``H % kv_heads == 0``. Of all
            sequences, or of those in `rows`.
        rows : (n,) ints, optional
            Which sequences, repeated ones too. Default: all.
        causal : bool, default True
            A query sees the tokens up to its own position. False is for tokens that are not the
            queries' own, as in cross attention.
        query_start : int or (n,) ints, optional
            At which position query 0 stands. Default ``lengths - L``: the queries are those of the
            last tokens. After an `append` with `lengths`, give what it returned.
        mask, bias : optional
            As of `pyattn.attention`, of what broadcasts to (n, H, L, S), where S is the largest
            length of the rows. Not for caches with a window.
        window : (left, right), optional
            As of `pyattn.attention`, for this call. Not for caches with a window.
        scale, softcap, sinks : optional
            As of `pyattn.attention`.
        layout : {"bhld", "blhd"}
            Of query and out.
        return_lse : bool, default False
            Also return the natural log of each row's softmax denominator.
        out : ndarray, (n, H, L, value_dim), optional
            Written and returned.

        Returns
        -------
        out : ndarray, (n, H, L, value_dim)
            In query's dtype.
        lse : ndarray of float32, (n, H, L)
            Only with ``return_lse=True``, in both layouts.

        Raises
        ------
        TypeError, ValueError
            Another dtype or shape; fewer tokens than queries, if these are causal and have no
            `query_start`; a query that would see tokens that have been dropped.
        MemoryError
            No scratch memory; `out` is untouched.
        RuntimeError
            Another thread is using the cache.
        KeyboardInterrupt
            As of `pyattn.attention`.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(2, 1, 4)
        >>> k, v, q = np.random.default_rng(0).standard_normal((3, 2, 1, 5, 4), dtype=np.float32)
        >>> start = cache.append(k, v, lengths=[5, 3])
        >>> out = cache.attend(q, query_start=start)
        >>> expected = pyattn.attention(q, k, v, causal=True, query_start=0, key_lengths=[5, 3])
        >>> bool(np.allclose(out, expected))
        True
        """
        function = "KVCache.attend"
        rows = self._rows(function, rows, distinct=False)
        q = _check_cache.query(function, query, layout, len(rows), self.kv_heads, self.head_dim)
        want_lse = _check.flag(function, "return_lse", return_lse)
        if self._sliding is not None:
            _check_cache.window_decides(function, causal, mask, bias, window)
            window = None if self._sliding.first else (self._sliding.left, 0)
        sequences = [self._sequences[b] for b in rows]
        lengths = [sequence.length for sequence in sequences]
        options = _options(
            function, _Operand(q.shape), _Operand((max(lengths, default=0), 0)), q.shape[:1],
            mask=mask, bias=bias, causal=causal, window=window, scale=scale, softcap=softcap,
            sinks=sinks,
        )  # fmt: skip
        places = starts = self._starts(function, query_start, rows, lengths, q.shape[2], causal)
        if self._sliding is not None:
            options, places, lengths = self._slid(
                function, rows, sequences, starts, q.shape, options
            )
        shape = (*q.shape[:3], self.value_dim)
        result = _result(
            function, out, _given_order(shape, layout, False), q.dtype, (q,), options.terms
        )
        lse = np.empty(shape[:3], np.float32) if want_lse else None
        if self.rope is not None:
            q = self._turned(q, starts, [q.shape[2]] * len(rows))
        heads, pages = as_plain(_heads_first(result, layout)), [s.pages for s in sequences]
        if result.size and any(pages):
            # Of the options those from the sinks on; where rows begin and end is said here.
            _core.attention_pages(
                as_plain(q), pages, heads, lse, np.array(places, np.int64),
                np.array(lengths, np.int64), *options[5:],
            )  # fmt: skip
        else:
            _attend(q, _NO_KEYS, None, heads, lse, options)
        result = handed_over(result, out)
        return (result, lse) if want_lse else result

    def _starts(
        self,
        function: str,
        query_start: Any,
        rows: Sequence[int],
        lengths: Sequence[int],
        queries: int,
        causal: bool,
    ) -> list[int]:
        """Where the first query of each row stands."""
        if query_start is not None:
            return _check.per_batch(
                function, "query_start", query_start, (len(rows),), None, None
            ).tolist()
        if causal and queries > min(lengths, default=queries):
            _check_cache.too_few_tokens(function, rows, lengths, queries)
        return [length - queries for length in lengths]

    def _slid(
        self,
        function: str,
        rows: Sequence[int],
        sequences: Sequence[PagedSequence],
        starts: Sequence[int],
        scores: tuple[int, ...],
        options: _Options,
    ) -> tuple[_Options, list[int], list[int]]:
        """Options, starts of queries and lengths as the places that tokens have in their pages."""
        sliding, queries = self._sliding, scores[2]
        places = list(starts)
        lengths = [s.length - s.dropped * self.page_size for s in sequences]
        for i, (b, sequence) in enumerate(zip(rows, sequences, strict=True)):
            if sequence.dropped:
                if sliding.lost(sequence.dropped, starts[i], queries):
                    gap = sliding.gap(sequence.dropped)
                    _check_cache.dropped(function, b, starts[i], queries, sliding.left, gap)
                places[i] -= sliding.shift(sequence.dropped, starts[i])
        if places and sliding.first and sliding.hides(max(places) + queries - 1):
            terms = sliding.terms(np.array(places), (*scores[:3], max(lengths)))
            options = options._replace(terms=terms, right=-1)
        return options, places, lengths

    @_alone
    def trim(self, lengths: Any) -> None:
        """Keep only the first tokens of each sequence.

        Parameters
        ----------
        lengths : int or (batch,) ints
            How many; at most those that there are.

        Returns
        -------
        None

        Raises
        ------
        TypeError, ValueError
            Numbers that are negative, or larger than the length; of a cache with a window, one so
            small that the last token would see some that have been dropped. Nothing has changed
            then.
        RuntimeError
            Another thread is using the cache.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(2, 1, 4)
        >>> x = np.ones((2, 1, 5, 4), np.float32)
        >>> start = cache.append(x, x)
        >>> cache.trim([5, 3])
        >>> cache.lengths
        array([5, 3])
        """
        function = "KVCache.trim"
        old = [sequence.length for sequence in self._sequences]
        self._shorten(function, range(self.batch), _check_cache.trimmed(function, lengths, old))

    @_alone
    def rollback(self, n: Any, rows: Any = None) -> None:
        """Forget the last tokens, as in speculative decoding those that were guessed wrong.

        Parameters
        ----------
        n : int or (len(rows),) ints
            How many.
        rows : sequence of int, optional
            Of which sequences, each at most once. Default: all.

        Returns
        -------
        None

        Raises
        ------
        TypeError, ValueError
            As `trim`. A sequence of a cache with a window can always go back to `page_size` tokens
            before the furthest place at which an `append` to it has begun.
        RuntimeError
            Another thread is using the cache.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(2, 1, 4)
        >>> x = np.ones((2, 1, 5, 4), np.float32)
        >>> start = cache.append(x, x)
        >>> cache.rollback(2)
        >>> cache.rollback(3, rows=[1])
        >>> cache.lengths
        array([3, 0])
        """
        function = "KVCache.rollback"
        rows = self._rows(function, rows, distinct=True)
        old = [self._sequences[b].length for b in rows]
        self._shorten(function, rows, _check_cache.rolled_back(function, n, rows, old))

    def _shorten(self, function: str, rows: Sequence[int], lengths: Sequence[int]) -> None:
        sequences, gone = self._sequences.copy(), []
        for b, length in zip(rows, lengths, strict=True):
            dropped = sequences[b].dropped
            if self._sliding is not None and dropped and length < sequences[b].length:
                if self._sliding.bars(dropped, length):
                    gap = self._sliding.gap(dropped)
                    _check_cache.cannot_return(function, b, length, gap)
                dropped = self._sliding.still_dropped(dropped, length)
            sequences[b], more = sequences[b].shortened(length, dropped, self.page_size)
            gone += more
        self._sequences = sequences
        let_go(gone)

    @_alone
    def clear(self) -> None:
        """Forget all tokens of all sequences.

        Returns
        -------
        None

        Raises
        ------
        RuntimeError
            Another thread is using the cache.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(1, 1, 4)
        >>> start = cache.append(np.ones((1, 1, 5, 4), "f"), np.ones((1, 1, 5, 4), "f"))
        >>> cache.clear()
        >>> cache.nbytes
        0
        """
        self._shorten("KVCache.clear", range(self.batch), [0] * self.batch)

    @_alone
    def fork(self, rows: Any) -> KVCache:
        """A cache whose sequences go on from those of this one, without a copy.

        Both hold the same pages. A page that is not full is copied when one of its holders next
        appends to it; full ones never are.

        Parameters
        ----------
        rows : (n,) ints
            Sequence i of the new cache goes on from sequence ``rows[i]`` of this one. A row may
            stand there several times, as in beam search, or not at all.

        Returns
        -------
        KVCache
            Of n sequences, with the same settings.

        Raises
        ------
        TypeError, ValueError
            A sequence that does not exist.
        RuntimeError
            Another thread is using the cache.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(1, 1, 4)
        >>> x = np.ones((3, 1, 2, 4), np.float32)
        >>> start = cache.append(x[:1], x[:1])  # a prompt
        >>> beams = cache.fork([0, 0, 0])
        >>> beams.append(x, x)
        array([2, 2, 2])
        >>> beams = beams.fork([2, 0, 2])  # the best beams, and theirs
        >>> beams.lengths, cache.lengths
        (array([4, 4, 4]), array([2]))
        """
        rows = _check_cache.rows("KVCache.fork", rows, self.batch, distinct=False)
        sequences = [self._sequences[b] for b in rows]
        for sequence in sequences:
            hold(sequence.pages)
        # In one step: a cache that is not whole would let go of pages that it does not hold.
        new = object.__new__(type(self))
        own = {"batch": len(rows), "_sequences": sequences, "_lock": threading.Lock()}
        new.__dict__.update(vars(self) | own)
        return new

    @_alone
    def keys(self, row: int) -> np.ndarray:
        """The keys of a sequence, to look at.

        Parameters
        ----------
        row : int

        Returns
        -------
        ndarray of float32, (kv_heads, length, head_dim)
            A fresh array of the numbers that `attend` computes with, turned if there is `rope`.
            Without those that have been dropped: see `pages`.

        Raises
        ------
        TypeError, ValueError
            A sequence that does not exist.
        RuntimeError
            Another thread is using the cache.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(1, 1, 2, dtype="int8")
        >>> x = np.array([[[[1.0, 0.3]]]], np.float32)
        >>> start = cache.append(x, x)
        >>> cache.keys(0).round(4)
        array([[[1.    , 0.2992]]], dtype=float32)
        """
        pages = self._page_arrays(_check_cache.row("KVCache.keys", row, self.batch))
        return self._joined([widened(p.keys, p.key_scales) for p in pages], self.head_dim)

    @_alone
    def values(self, row: int) -> np.ndarray:
        """The values of a sequence, to look at.

        Parameters
        ----------
        row : int

        Returns
        -------
        ndarray of float32, (kv_heads, length, value_dim)
            As `keys`.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `keys`.

        Examples
        --------
        >>> import pyattn
        >>> pyattn.KVCache(1, 4, 64, value_dim=32).values(0).shape
        (4, 0, 32)
        """
        pages = self._page_arrays(_check_cache.row("KVCache.values", row, self.batch))
        return self._joined([widened(p.values, p.value_scales) for p in pages], self.value_dim)

    @_alone
    def pages(self, row: int) -> list[PageArrays]:
        """What a sequence is made of: plain arrays, without a copy.

        Parameters
        ----------
        row : int

        Returns
        -------
        list of PageArrays
            One named tuple for each page: `start`, the position of its first token; `keys`
            (kv_heads, n, head_dim) and `values` (kv_heads, n, value_dim) of its n tokens, as they
            are kept, bfloat16 as its bits in uint16; of int8 `key_scales` and `value_scales`,
            (kv_heads, n), else None. All read-only. They show the cache as it is now; later calls
            may write to them.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `keys`.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> cache = pyattn.KVCache(1, 2, 16, page_size=64, dtype="float16")
        >>> start = cache.append(np.ones((1, 2, 70, 16), "f"), np.ones((1, 2, 70, 16), "f"))
        >>> [(page.start, page.keys.shape, page.keys.dtype.name) for page in cache.pages(0)]
        [(0, (2, 64, 16), 'float16'), (64, (2, 6, 16), 'float16')]
        """
        return self._page_arrays(_check_cache.row("KVCache.pages", row, self.batch))

    def _joined(self, parts: list[np.ndarray], size: int) -> np.ndarray:
        nothing = np.zeros((self.kv_heads, 0, size), np.float32)  # perhaps there are no parts
        return np.concatenate([nothing, *parts], axis=1)

    def _page_arrays(self, row: int) -> list[PageArrays]:
        sequence, size, found = self._sequences[row], self.page_size, []
        for number, page in enumerate(sequence.pages):
            if self._sliding is not None and number >= self._sliding.kept:
                number += sequence.dropped
            start = number * size
            arrays = page.keys, page.values, page.key_scales, page.value_scales
            found.append(PageArrays(start, *(_shown(a, sequence.length - start) for a in arrays)))
        return found

    def __copy__(self) -> KVCache:
        return self.fork(range(self.batch))

    def __deepcopy__(self, memo: dict[int, Any]) -> KVCache:
        return self.fork(range(self.batch))

    @_alone
    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for sequence in state["_sequences"]:
            hold(sequence.pages)
        self.__dict__.update(state, _lock=threading.Lock())

    def _rows(self, function: str, rows: Any, distinct: bool) -> Sequence[int]:
        if rows is None:
            return range(self.batch)
        return _check_cache.rows(function, rows, self.batch, distinct)

    def _turned(self, x: np.ndarray, starts: Sequence[int], counts: Sequence[int]) -> np.ndarray:
        """Rows (n, heads, L, size) by where they stand; padding behind `counts` anyhow."""
        places = np.arange(x.shape[2])
        positions = np.array(starts, np.int64)[:, None] + places
        real = places < np.array(counts, np.int64)[:, None]
        return turned(x, np.where(real, positions, 0), self.rope, interleaved=self.interleaved)


def _shown(array: np.ndarray | None, tokens: int) -> np.ndarray | None:
    if array is None:
        return None
    view = array[:, :tokens]
    view.flags.writeable = False
    return view
