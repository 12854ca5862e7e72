"""The multi-head layer: projections into heads, attention in each of them, a projection back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from pyattn import (
    _check,
    _check_layers,
    _check_multihead,
    _check_weights,
    _checkpoints,
    _turning,
)
from pyattn._extra_keys import ExtraKeys
from pyattn._fresh_weights import fresh_weights
from pyattn.attention import attention, attention_varlen, attention_weights
from pyattn.layers import Linear, rms_norm

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention:
    """The multi-head attention layer: ``concat(heads) @ W_o.T + b_o``, where each head is
    ``attention(x @ W_q.T + b_q, y @ W_k.T + b_k, z @ W_v.T + b_v)`` with its own rows of the
    weights.

    Made with fresh weights, drawn as those of `torch.nn.MultiheadAttention` are; with given ones
    by `from_weights`, of PyTorch's layer by `from_torch`, from a checkpoint by `from_tensors`.
    A layer does not change once it is made, can be called by several threads at a time, and
    pickles.

    Parameters
    ----------
    embed_dim : int
        The size of a row of `query` and of the result.
    num_heads : int
    kv_heads : int, optional
        Heads of keys and values, which divide the `num_heads` of queries into groups. Default
        `num_heads`.
    head_dim : int, optional
        Default ``embed_dim // num_heads``.
    kdim, vdim : int, optional
        The size of a row of `key` and of `value`. Default `embed_dim`.
    bias : bool, default True
        Whether the projections have biases; they begin as zeros.
    add_bias_kv : bool, default False
        Whether there is one more key, with a value, that every query sees, whatever masks say.
        Their weights are `bias_k` and `bias_v`.
    add_zero_attn : bool, default False
        Whether there is one more key of zeros, with a value of zeros, that every query sees.
    rope : RopeFrequencies, RopeTable or array_like of float, (pairs,), optional
        What turns queries and keys by their positions, after their projection: see
        `pyattn.positional.rope`.
    interleaved : bool, optional
        Which numbers are a pair, as of `pyattn.positional.rope`; needed with `rope`.
    scale, softcap : float, optional
        As of `pyattn.attention`, for calls that do not give others.
    rng : None, int or numpy.random.Generator
        What the weights are drawn from; a number for the same ones every time.
    dtype : float32 or float64
        Of weights, inputs and results.
    storage : {None, "bfloat16", "float16"}
        How weights are kept, as of `pyattn.layers.Linear`. None: as `dtype`.

    Attributes
    ----------
    q_weight : ndarray, (num_heads * head_dim, embed_dim)
    k_weight : ndarray, (kv_heads * head_dim, kdim)
    v_weight : ndarray, (kv_heads * value_dim, vdim)
    out_weight : ndarray, (out_dim, num_heads * value_dim)
        Fresh copies: weights are kept in another order.
    q_bias, k_bias, v_bias, out_bias : ndarray
        Zeros if there is none.
    bias_k, bias_v, q_norm, k_norm, sinks : ndarray or None
    weights : dict of str to ndarray
        All of these that there are, as `from_weights` takes them.
    embed_dim, num_heads, kv_heads, head_dim, value_dim, kdim, vdim, out_dim : int
        `value_dim` is that of a head, `out_dim` that of the result.
    rope, interleaved, scale, softcap, add_zero_attn, norm_eps, dtype
        As given.
    nbytes : int
        What the weights of the projections take.

    Raises
    ------
    TypeError, ValueError
        Sizes that are not positive whole numbers, or do not fit together; an unknown dtype.

    Notes
    -----
    Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2. Queries, keys and values of
    one input are projected in one pass over it, into the place where attention reads them; nothing
    is transposed or copied. Glorot and Bengio 2010 for the fresh weights, uniform in ``+-sqrt(6 /
    (inputs + outputs))``, where outputs are those of all three if they have one input size.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> layer = pyattn.MultiHeadAttention(64, 8, rng=0)
    >>> layer
    <MultiHeadAttention 64 -> 8 heads of 8 -> 64, float32>
    >>> x = np.random.default_rng(1).standard_normal((2, 5, 64), dtype=np.float32)
    >>> layer(x, causal=True).shape
    (2, 5, 64)
    >>> out, weights = layer(x, x[:, :3], need_weights="per_head")
    >>> weights.shape
    (2, 8, 5, 3)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        rope: Any = None,
        interleaved: bool | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        rng: Any = None,
        dtype: Any = np.float32,
        storage: str | None = None,
    ) -> None:
        function = "MultiHeadAttention"
        embed_dim, heads = _check_multihead.sizes(
            function, embed_dim, num_heads, kv_heads, head_dim
        )
        kdim = _check_weights.count(function, "kdim", kdim) or embed_dim
        vdim = _check_weights.count(function, "vdim", vdim) or embed_dim
        dtype = _check_layers.dtype(function, dtype)
        weights = fresh_weights(
            _check_multihead.seed(function, rng),
            heads,
            (embed_dim, kdim, vdim),
            _check.flag(function, "bias", bias),
            _check.flag(function, "add_bias_kv", add_bias_kv),
            dtype,
        )
        self._set(
            _check_weights.by_name(function, weights),
            heads,
            rope=rope,
            interleaved=interleaved,
            scale=scale,
            softcap=softcap,
            add_zero_attn=add_zero_attn,
            norm_eps=1e-6,
            dtype=dtype,
            storage=storage,
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, Any],
        num_heads: int | None = None,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: Any = None,
        interleaved: bool | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        add_zero_attn: bool = False,
        norm_eps: float = 1e-6,
        dtype: Any = None,
        storage: str | None = None,
    ) -> MultiHeadAttention:
        """The layer with these weights.

        Parameters
        ----------
        weights : mapping of str to array_like
            float16, bfloat16, float32 or float64; may be memory-mapped, each is read once. Needed
            are "q_weight", "k_weight", "v_weight" and "out_weight", (outputs, inputs). There may
            be "q_bias", "k_bias", "v_bias", "out_bias"; "bias_k" and "bias_v", see `add_bias_kv`;
            "q_norm" and "k_norm", (head_dim,): each head of queries or keys goes through
            `pyattn.layers.rms_norm`, before it is turned; "sinks", (num_heads,): see
            `pyattn.attention`.
        num_heads : int, optional
            Needed, unless `head_dim`, a norm or the sinks tell it.
        kv_heads, head_dim : int, optional
            The shapes tell them; refused if they tell others.
        rope, interleaved, scale, softcap, add_zero_attn, storage
            As of the class.
        norm_eps : float
            Of both norms.
        dtype : float32 or float64, optional
            Default: float32, or float64 if "q_weight" is.

        Returns
        -------
        MultiHeadAttention

        Raises
        ------
        TypeError, ValueError
            A weight that is missing, unknown, not of a float type, or of a shape that does not fit.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> names = "q_weight", "k_weight", "v_weight", "out_weight"
        >>> layer = pyattn.MultiHeadAttention.from_weights({n: np.eye(6) for n in names}, 2)
        >>> layer
        <MultiHeadAttention 6 -> 2 heads of 3 -> 6, float64>
        """
        function = "MultiHeadAttention.from_weights"
        return cls._of(
            _check_weights.by_name(function, weights),
            num_heads,
            kv_heads,
            head_dim,
            rope=rope,
            interleaved=interleaved,
            scale=scale,
            softcap=softcap,
            add_zero_attn=add_zero_attn,
            norm_eps=norm_eps,
            dtype=dtype,
            storage=storage,
        )

    @classmethod
    def from_torch(
        cls,
        state_dict: Mapping[str, Any],
        num_heads: int,
        *,
        prefix: str = "",
        add_zero_attn: bool = False,
        dtype: Any = None,
        storage: str | None = None,
    ) -> MultiHeadAttention:
        """The layer with the weights of a `torch.nn.MultiheadAttention`.

        Agrees with that in eval mode up to rounding. Its masks mean the opposite: give
        ``mask=~attn_mask`` and ``mask=~key_padding_mask[:, None, None, :]``; its additive masks are
        `bias`, its ``is_causal`` is ``causal=True, query_start=0``.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            NumPy arrays, or PyTorch tensors on the CPU that NumPy has a dtype for.
        num_heads : int
        prefix : str, optional
            What the names begin with. That of a `torch.nn.TransformerEncoderLayer` will do too.
        add_zero_attn : bool
            As of PyTorch's layer; its weights do not tell.
        dtype, storage
            As of `from_weights`.

        Returns
        -------
        MultiHeadAttention

        Raises
        ------
        TypeError, ValueError
            A tensor that is missing, unknown, not of a float type, or of a shape that does not fit.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> state = {"in_proj_weight": np.zeros((24, 8)), "in_proj_bias": np.zeros(24),
        ...          "out_proj.weight": np.zeros((8, 8)), "out_proj.bias": np.zeros(8)}
        >>> pyattn.MultiHeadAttention.from_torch(state, 2)
        <MultiHeadAttention 8 -> 2 heads of 4 -> 8, float64>
        """
        function = "MultiHeadAttention.from_torch"
        num_heads = _check_weights.count(function, "num_heads", num_heads)
        found = _checkpoints.read(function, state_dict, prefix, "torch", num_heads)
        return cls._of(
            found.weights,
            num_heads,
            add_zero_attn=add_zero_attn,
            dtype=dtype,
            storage=storage,
        )

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Any],
        prefix: str = "",
        *,
        format: str = "auto",
        num_heads: int | None = None,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: Any = None,
        interleaved: bool | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        norm_eps: float = 1e-6,
        dtype: Any = None,
        storage: str | None = None,
    ) -> MultiHeadAttention:
        """The layer with the weights of one layer of a checkpoint.

        Parameters
        ----------
        tensors : mapping of str to array_like
            All tensors of the checkpoint, of which those are read that are needed; they may be
            memory-mapped.
        prefix : str
            What the names of the layer begin with, as "encoder.layer.3", or those of the attention
            in it, as "encoder.layer.3.attention".
        format : str
            "auto": the only one of these formats of which all tensors are there. "bert" (RoBERTa,
            MiniLM, BGE, E5), "clip" (SigLIP, Whisper, BART, wav2vec2), "deberta", "distilbert",
            "gguf", "gpt2", "llama" (Mistral, Qwen, SmolLM), "modernbert", "mpnet", "t5" (whose
            `scale` is 1), "timm", "torch", "vit" (of Hugging Face, DINOv2).
        num_heads : int, optional
            Needed, unless `head_dim`, a norm or the sinks tell it.
        kv_heads : int, optional
            Needed with fewer heads of keys than of queries if all are in one tensor.
        head_dim, rope, interleaved, scale, softcap, norm_eps, dtype, storage
            As of `from_weights`.

        Returns
        -------
        MultiHeadAttention

        Raises
        ------
        TypeError, ValueError
            No format, or several, that fit; a tensor that is missing, not of a float type, or of a
            shape that does not fit; one among them that is unknown, as of adapters or quantized
            weights.

        Notes
        -----
        Read are the projections, norms of queries and keys, and sinks. Positions are the caller's:
        RoPE is `rope`, T5's and MPNet's tables become a `bias` of the calls. Gemma keeps its norms
        less 1, which names do not tell: add it, and use `from_weights`.

        Examples
        --------
        >>> import numpy as np, pyattn
        >>> names = [f"h.0.self_attn.{n}_proj.weight" for n in "qkvo"]
        >>> tensors = {name: np.zeros((64, 64), np.float16) for name in names}
        >>> frequencies = pyattn.positional.rope_frequencies(16)
        >>> pyattn.MultiHeadAttention.from_tensors(
        ...     tensors, "h.0", num_heads=4, rope=frequencies, interleaved=False)
        <MultiHeadAttention 64 -> 4 heads of 16 -> 64, rope, float32>
        """
        function = "MultiHeadAttention.from_tensors"
        num_heads = _check_weights.count(function, "num_heads", num_heads)
        kv_heads = _check_weights.count(function, "kv_heads", kv_heads)
        # A table of Swin's is the caller's to add, as a bias: it needs the windows.
        found = _checkpoints.read(
            function, tensors, prefix, format, num_heads, kv_heads, table="swin_table"
        )
        return cls._of(
            found.weights,
            num_heads,
            kv_heads,
            head_dim,
            rope=rope,
            interleaved=interleaved,
            scale=found.scale if scale is None else scale,
            softcap=softcap,
            norm_eps=norm_eps,
            dtype=dtype,
            storage=storage,
        )

    @classmethod
    def _of(
        cls,
        weights: _check_weights.Weights,
        num_heads: Any,
        kv_heads: Any = None,
        head_dim: Any = None,
        *,
        dtype: Any,
        **settings: Any,
    ) -> MultiHeadAttention:
        function = weights.function
        heads = _check_weights.heads(
            weights,
            _check_weights.count(function, "num_heads", num_heads),
            _check_weights.count(function, "kv_heads", kv_heads),
            _check_weights.count(function, "head_dim", head_dim),
        )
        if dtype is None:
            dtype = "float64" if weights["q_weight"].dtype.name == "float64" else "float32"
        layer = cls.__new__(cls)
        layer._set(weights, heads, dtype=_check_layers.dtype(function, dtype), **settings)
        return layer

    def _set(
        self,
        weights: _check_weights.Weights,
        heads: _check_weights.Heads,
        *,
        dtype: np.dtype,
        storage: str | None,
        rope: Any = None,
        interleaved: Any = None,
        scale: Any = None,
        softcap: Any = None,
        add_zero_attn: Any = False,
        norm_eps: Any = 1e-6,
    ) -> None:
        function, given = weights.function, weights.arrays
        _check_weights.vectors(weights, heads)
        self.num_heads, self.kv_heads, self.head_dim, self.value_dim = heads
        self.dtype = dtype
        self.interleaved = _check_multihead.interleaved(function, rope, interleaved)
        self.rope = _turning.frequencies(function, rope, self.head_dim)
        self.scale = None if scale is None else _check.scale(function, scale, 1, dtype)
        self.softcap = None if softcap is None else _check.softcap(function, softcap, dtype)
        self.norm_eps = _check_multihead.norm_eps(function, norm_eps)
        self.add_zero_attn = _check.flag(function, "add_zero_attn", add_zero_attn)

        def vector(name: str) -> np.ndarray | None:
            return _frozen(given[name].astype(dtype).reshape(-1)) if name in given else None

        self.bias_k, self.bias_v = vector("bias_k"), vector("bias_v")
        self.q_norm, self.k_norm = vector("q_norm"), vector("k_norm")
        self.sinks = _frozen(self._checked_sinks(function, given.get("sinks")))
        self._q, self._k, self._v, self._out = (
            Linear(given[f"{n}_weight"], given.get(f"{n}_bias"), dtype=dtype, storage=storage)
            for n in ("q", "k", "v", "out")
        )

    embed_dim, out_dim = property(attrgetter("_q.inputs")), property(attrgetter("_out.outputs"))
    kdim, vdim = property(attrgetter("_k.inputs")), property(attrgetter("_v.inputs"))
    q_weight, q_bias = property(attrgetter("_q.weight")), property(attrgetter("_q.bias"))
    k_weight, k_bias = property(attrgetter("_k.weight")), property(attrgetter("_k.bias"))
    v_weight, v_bias = property(attrgetter("_v.weight")), property(attrgetter("_v.bias"))
    out_weight, out_bias = property(attrgetter("_out.weight")), property(attrgetter("_out.bias"))

    @property
    def weights(self) -> dict[str, np.ndarray]:
        found = {name: getattr(self, name) for name in _check_weights.NAMES}
        return {name: a for name, a in found.items() if a is not None}

    @property
    def nbytes(self) -> int:
        return sum(linear.nbytes for linear in (self._q, self._k, self._v, self._out))

    def __repr__(self) -> str:
        size = f"{self.head_dim}"
        if self.value_dim != self.head_dim:
            size += f" (values {self.value_dim})"
        kinds = [
            (self.kv_heads != self.num_heads, f"{self.kv_heads} key heads"),
            (self.kdim != self.embed_dim, f"kdim {self.kdim}"),
            (self.vdim != self.embed_dim, f"vdim {self.vdim}"),
            (self.bias_k is not None, "bias_k"),
            (self.add_zero_attn, "zero key"),
            (self.q_norm is not None or self.k_norm is not None, "norms"),
            (self.rope is not None, "rope"),
            (self.scale is not None, f"scale {self.scale}"),
            (self.softcap is not None, f"softcap {self.softcap}"),
            (self.sinks is not None, "sinks"),
            (True, f"{self.dtype}"),
        ]
        heads = f"{self.num_heads} head{'s' * (self.num_heads > 1)} of {size}"
        return (
            f"<MultiHeadAttention {self.embed_dim} -> {heads} -> {self.out_dim}, "
            f"{', '.join(text for there, text in kinds if there)}>"
        )

    def __call__(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        *,
        mask: Any = None,
        bias: Any = None,
        causal: bool = False,
        window: tuple[int | None, int | None] | None = None,
        query_start: Any = None,
        key_lengths: Any = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Any = None,
        positions: Any = None,
        key_positions: Any = None,
        cu_seqlens: Any = None,
        cu_seqlens_k: Any = None,
        need_weights: bool | str = False,
        residual: Any = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Attend from `query` to `key` and `value`, by default to `query` itself.

        Parameters
        ----------
        query : array_like, (..., L, embed_dim)
            Of the layer's dtype. Packed sequences, with `cu_seqlens`: (T, embed_dim).
        key : array_like, (..., S, kdim), optional
            Default `query`. Leading axes broadcast.
        value : array_like, (..., S, vdim), optional
            Default `key`.
        mask, bias, causal, window, query_start, key_lengths
            As of `pyattn.attention`, with heads: a mask is (..., H, L, S) or broadcasts to it.
        scale, softcap, sinks
            As of `pyattn.attention`; default: the layer's own.
        positions : array_like, (L,) or what broadcasts to (..., L), optional
            Where queries stand, for `rope`, and keys too if they are the queries; (axes, ..., L)
            if its frequencies have axes. Default: ``query_start + i``, with the `query_start` of
            `pyattn.attention`: that is, counted from 0 if there are as many keys as queries, and
            up to the last key's if there are more. In packed sequences the same in each.
        key_positions : array_like, (S,) or what broadcasts to (..., S), optional
            The same of the keys. Default: counted from 0, in each sequence.
        cu_seqlens, cu_seqlens_k : (N + 1,) ints, optional
            Where packed sequences begin, and end, in `query` and in `key`: as of
            `pyattn.attention_varlen`. `mask`, `query_start`, `key_lengths` and `need_weights` are
            not possible then, and a `bias` must be ALiBi.
        need_weights : {False, "average", "per_head"}
            Whether to return the attention weights too, all L x S, averaged over heads or not.
            They are computed by a second pass over queries and keys.
        residual : array_like, broadcasts to the shape of the result, optional
            Added to the result.
        out : ndarray, of the shape of the result, optional
            Written and returned. May be `query` or `residual`.

        Returns
        -------
        out : ndarray, (..., L, out_dim)
        weights : ndarray, (..., L, S) or (..., H, L, S)
            Only with `need_weights`. Further keys, those of `add_bias_kv` and `add_zero_attn`,
            stand behind the S.

        Raises
        ------
        TypeError, ValueError, NotImplementedError, MemoryError, KeyboardInterrupt
            As `pyattn.attention`. `out` is untouched then, unless Ctrl-C was pressed.
        """
        function = "MultiHeadAttention"
        _check_multihead.need_weights(function, need_weights)
        sizes = self.embed_dim, self.kdim, self.vdim
        inputs = _check_multihead.inputs(function, query, key, value, sizes, self.dtype)
        leading = _check_multihead.leading(function, inputs)
        offsets = _check_multihead.packed(function, inputs, cu_seqlens, cu_seqlens_k)
        rows = (*leading, inputs[0].shape[-2])
        if residual is not None:
            residual = _check_layers.operand(
                function, "residual", residual, (*rows, self.out_dim), self.dtype
            )
        if out is not None:
            _check.out(function, out, (*rows, self.out_dim), self.dtype)

        extra = self._extra_keys()
        sinks = self.sinks if sinks is None else self._checked_sinks(function, sinks)
        scaling = {
            "scale": self.scale if scale is None else scale,
            "softcap": self.softcap if softcap is None else softcap,
        }
        options = {"bias": bias, "causal": causal, "window": window, **scaling}
        options["sinks"] = extra.sinks(sinks, self.num_heads)
        unpacked = {"mask": mask, "query_start": query_start, "key_lengths": key_lengths}
        if offsets is None:
            attend = partial(attention, layout="blhd", **options, **unpacked)
        else:
            _check_multihead.not_packed(function, {**unpacked, "need_weights": need_weights})
            attend = partial(
                attention_varlen, cu_seqlens_q=offsets[0], cu_seqlens_k=offsets[1], **options
            )

        q, k, v = self._projected(inputs)
        self._normalize(q, k)
        places = _turning.Places(positions, key_positions, query_start, offsets)
        if self.rope is None:
            _check_multihead.no_positions(function, places)
        else:
            same = inputs[1] is inputs[0]
            # Positions may differ within the batch, and what is turned must then do so as well.
            q = _own_leading(q, leading)
            k = _own_leading(k, leading) if key_positions is not None or same else k
            _turning.turn(function, q, k, self.rope, self.interleaved, places, same)
        q = np.broadcast_to(q, leading + q.shape[-3:])
        heads = np.empty((*rows, self.num_heads, self.value_dim), self.dtype)
        if extra:
            _, lse = attend(q, k, v, return_lse=True, out=heads)
            shares = extra.merge(q, heads, lse, scaling)
        else:
            attend(q, k, v, out=heads)
        weights = None
        if need_weights:  # before anything is written that an option may share memory with
            weights = attention_weights(q, k, layout="blhd", **options, **unpacked)
            if extra:
                weights = np.concatenate([weights * shares[0], *shares[1:]], axis=-1)
            if need_weights == "average":
                weights = weights.mean(axis=-3)
        joined = heads.reshape(*rows, self.num_heads * self.value_dim)
        result = self._out(joined, residual=residual, out=out)
        return (result, weights) if need_weights else result

    def _extra_keys(self) -> ExtraKeys:
        if self.bias_k is None:
            return ExtraKeys(None, None, self.add_zero_attn)
        heads = (1, self.kv_heads, -1)
        return ExtraKeys(self.bias_k.reshape(heads), self.bias_v.reshape(heads), self.add_zero_attn)

    def _checked_sinks(self, function: str, sinks: Any) -> np.ndarray | None:
        return None if sinks is None else _check.sinks(function, sinks, self.num_heads, self.dtype)

    def _projected(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Heads of queries, keys and values, (..., length, heads, size) views of arrays in which
        each head is in one piece; in one pass over each input."""
        linears = self._q, self._k, self._v
        counts = self.num_heads, self.kv_heads, self.kv_heads
        heads = [
            np.empty((count, *x.shape[:-1], linear.outputs // count), self.dtype)
            for linear, count, x in zip(linears, counts, inputs, strict=True)
        ]
        for source in {id(x): x for x in inputs}.values():
            own = [n for n, x in enumerate(inputs) if x is source]
            Linear.many([linears[n] for n in own], source, [heads[n] for n in own])
        return [np.moveaxis(a, 0, -2) for a in heads]

    def _normalize(self, q: np.ndarray, k: np.ndarray) -> None:
        for x, weight in ((q, self.q_norm), (k, self.k_norm)):
            if weight is not None:
                rms_norm(x, weight, eps=self.norm_eps, out=x)


def _own_leading(x: np.ndarray, leading: tuple[int, ...]) -> np.ndarray:
    """Rows for every element of the batch, a copy unless `x` (..., L, H, D) has them."""
    return x if x.shape[:-3] == leading else np.broadcast_to(x, leading + x.shape[-3:]).copy()


def _frozen(x: np.ndarray | None) -> np.ndarray | None:
    if x is not None:
        x.flags.writeable = False
    return x
