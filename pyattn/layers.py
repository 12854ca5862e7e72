"""The layers around attention: linear layers with what follows them, and norms.

No BLAS inside: the same kernels and threads as attention, the same bits for any number of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyattn import _check, _check_layers, _core
from pyattn._out import handed_over
from pyattn._pieces import as_plain

__all__ = ["Linear", "layer_norm", "rms_norm"]

# In the order of pa_activation.
ACTIVATIONS = (None, "gelu", "gelu_tanh", "quick_gelu", "silu", "relu")
PLAIN_STORAGE = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(np.uint16)}


class Linear:
    """A linear layer, ``activation(x @ weight.T + bias)``, with its weights packed once.

    Parameters
    ----------
    weight : array_like, (outputs, inputs)
        float16, bfloat16 (any dtype of that name), float32 or float64; any strides, memory-mapped
        too. It is read once and not kept.
    bias : array_like, (outputs,), optional
    activation : {None, "gelu", "gelu_tanh", "quick_gelu", "silu", "relu"}
        "gelu" is the exact one, ``x * Phi(x)``; "gelu_tanh" its approximation with tanh (both:
        Hendrycks and Gimpel 2016, arXiv 1606.08415), "quick_gelu" ``x * sigmoid(1.702 * x)``,
        "silu" ``x * sigmoid(x)``.
    dtype : float32 or float64, optional
        Of `x` and the result. Default: float64 if `weight` is, else float32.
    storage : {None, "float16", "bfloat16"}
        How the packed weights are kept: as `dtype`, or rounded to halves, which take half the
        memory and are widened while they are used. float64 is rounded to float32 first.

    Attributes
    ----------
    inputs, outputs : int
    dtype : numpy.dtype
    activation, storage : str or None
    weight, bias : ndarray
        Fresh copies in `dtype`, (outputs, inputs) and (outputs,).
    nbytes : int
        Of the packed weights.

    Raises
    ------
    TypeError, ValueError
        Not floating point, a wrong shape, an unknown activation or storage.
    MemoryError

    Notes
    -----
    A result is made of chains of at most 512 products, added one after the other; it depends on its
    row of `x` and on nothing else. See docs/numerics.md. A layer can be pickled and used by many
    threads at once.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.layers import Linear
    >>> layer = Linear(np.array([[1.0, 2.0], [0.0, -1.0]]), activation="relu")
    >>> layer(np.array([[3.0, 4.0]]))
    array([[11.,  0.]])
    """

    __slots__ = ("__weakref__", "_code", "_packed", "dtype", "inputs", "outputs", "storage")

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        *,
        activation: str | None = None,
        dtype: Any = None,
        storage: str | None = None,
    ) -> None:
        weight = _check_layers.weight("Linear", weight)
        if dtype is None:
            dtype = np.float64 if weight.dtype == np.float64 else np.float32
        self.dtype = _check_layers.dtype("Linear", dtype)
        self.outputs, self.inputs = weight.shape
        _check_layers.activation("Linear", activation, ACTIVATIONS)
        _check_layers.storage("Linear", storage, weight, self.dtype)
        self._code, self.storage = ACTIVATIONS.index(activation), storage
        if bias is None:
            bias = np.zeros(self.outputs, self.dtype)
        bias = _check_layers.vector("Linear", "bias", bias, self.outputs, self.dtype)
        self._pack(as_plain(weight), bias)

    def _pack(self, weight: np.ndarray, bias: np.ndarray) -> None:
        stored = self.dtype if self.storage is None else PLAIN_STORAGE[self.storage]
        self._packed = _core.linear_pack(weight, bias, np.empty(0, stored))

    def _unpack(self) -> tuple[np.ndarray, np.ndarray]:
        """The weights as they are stored, bfloat16 as its bits; and the bias."""
        stored = self.dtype if self.storage is None else PLAIN_STORAGE[self.storage]
        weight = np.empty((self.outputs, self.inputs), stored)
        bias = np.empty(self.outputs, self.dtype)
        _core.linear_unpack(self._packed, weight, bias)
        return weight, bias

    def __call__(
        self, x: Any, *, residual: Any = None, gate: Any = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Return ``activation(x @ weight.T + bias) * gate + residual``.

        Parameters
        ----------
        x : array_like, (..., inputs)
            Any strides; leading axes that are no regular grid of rows (more than two of them,
            sliced) are copied first.
        residual, gate : array_like, broadcast to (..., outputs), optional
            Added to, and multiplied with, the result before it is written. A gated layer (GLU,
            Shazeer 2020, arXiv 2002.05202) is ``up(x, gate=gate_layer(x))``.
        out : ndarray, (..., outputs), optional
            Written and returned. May be `residual` or `gate` itself; if it overlaps otherwise, the
            result is computed aside and copied.

        Returns
        -------
        ndarray, (..., outputs)

        Raises
        ------
        TypeError, ValueError
            Another dtype than the layer's, shapes that do not fit. Nothing has been written then.
        NotImplementedError
            float16 and bfloat16.
        MemoryError, KeyboardInterrupt
            Where `out` is `residual` or `gate`, the call cannot be interrupted.
        """
        x = _check_layers.inputs("Linear", x, self.inputs, self.dtype)
        shape = (*x.shape[:-1], self.outputs)
        if gate is not None:
            gate = _check_layers.operand("Linear", "gate", gate, shape, self.dtype)
        if residual is not None:
            residual = _check_layers.operand("Linear", "residual", residual, shape, self.dtype)
        result = out
        if out is None:
            result = np.empty(shape, self.dtype)
        else:
            _check.out("Linear", out, shape, self.dtype)
            if _needs_temporary(out, [x], [gate, residual]):
                result = np.empty(shape, self.dtype)
        if result.size:
            gate = None if gate is None else _plane(gate)
            residual = None if residual is None else _plane(residual)
            _run(x, [(self, _plane(result), gate, residual)])
        return handed_over(result, out)

    @staticmethod
    def many(
        layers: Sequence[Linear], x: Any, outs: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Apply several layers to the same rows, reading these once.

        Parameters
        ----------
        layers : sequence of Linear
            With the same inputs and dtype; at most 8.
        x : array_like, (..., inputs)
        outs : sequence of ndarray, optional
            One per layer: (..., outputs), or (heads, ..., size) with ``heads * size == outputs``,
            where attention reads heads without a transpose: output ``n`` of a row is then written
            to head ``n // size``. They must not overlap each other or `x`.

        Returns
        -------
        list of ndarray
            `outs`, or fresh arrays (..., outputs).

        Raises
        ------
        TypeError, ValueError, NotImplementedError, MemoryError, KeyboardInterrupt
            As the layers themselves.

        Examples
        --------
        >>> import numpy as np
        >>> from pyattn.layers import Linear
        >>> w = np.eye(4, dtype=np.float32)
        >>> q, k = Linear.many([Linear(w), Linear(2 * w)], np.ones((3, 4), np.float32))
        >>> k[0]
        array([2., 2., 2., 2.], dtype=float32)
        """
        layers = _check_layers.several("Linear.many", "layers", layers)
        if outs is not None:
            outs = _check_layers.several("Linear.many", "outs", outs)
        _check_layers.layers("Linear.many", layers, Linear, outs)
        dtype = layers[0].dtype
        x = _check_layers.inputs("Linear.many", x, layers[0].inputs, dtype)
        rows = x.shape[:-1]
        if outs is None:
            outs = [np.empty((*rows, layer.outputs), dtype) for layer in layers]
            planes = [_plane(out) for out in outs]
        else:
            planes = []
            for n, (layer, out) in enumerate(zip(layers, outs, strict=True)):
                heads = _check_layers.heads_out(
                    "Linear.many", f"outs[{n}]", out, rows, layer.outputs, dtype
                )
                planes.append(_plane_of_heads(out) if heads else _plane(out))
                _check_layers.apart("Linear.many", n, out, planes[n], x, outs[:n])
        if x.size:
            _run(x, [(layer, out, None, None) for layer, out in zip(layers, planes, strict=True)])
        return outs

    @property
    def activation(self) -> str | None:
        return ACTIVATIONS[self._code]

    @property
    def weight(self) -> np.ndarray:
        weight = self._unpack()[0]
        if self.storage == "bfloat16":
            weight = (weight.astype(np.uint32) << 16).view(np.float32)
        return weight.astype(self.dtype, copy=False)

    @property
    def bias(self) -> np.ndarray:
        return self._unpack()[1]

    @property
    def nbytes(self) -> int:
        return self._packed.nbytes

    def __getstate__(self) -> tuple[Any, ...]:
        return self._unpack(), self._code, self.dtype, self.storage

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (weight, bias), self._code, self.dtype, self.storage = state
        self.outputs, self.inputs = weight.shape
        self._pack(weight, bias)

    def __repr__(self) -> str:
        options = "".join(
            f", {name}={value!r}"
            for name, value in (("activation", self.activation), ("storage", self.storage))
            if value is not None
        )
        return f"<Linear {self.inputs} -> {self.outputs}, {self.dtype}{options}>"


def _run(x: np.ndarray, parts: Sequence[tuple[Any, ...]]) -> None:
    """Layers with what they write, their gate and their residual, as planes."""
    plane = _plane(x)

    def done() -> bool:
        return _core.linear(plane, [(layer._packed, layer._code, *rest) for layer, *rest in parts])

    while done() is False:  # the instruction set is another than when they were packed
        for layer, *_ in parts:
            layer._pack(*layer._unpack())


def layer_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: float = 1e-5,
    residual: Any = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Layer normalisation of ``y = x + residual`` over the last axis.

    ``(y - mean) / sqrt(variance + eps) * weight + bias`` (Ba et al. 2016, arXiv 1607.06450), with
    the variance that divides by the number of channels.

    Parameters
    ----------
    x : array_like, (..., E)
        float32 or float64. Rows that are not contiguous are copied first.
    weight, bias : array_like, (E,), optional
        Default: 1 and 0.
    eps : float, default 1e-5
    residual : array_like, broadcasts to (..., E), optional
    out : ndarray, (..., E), optional
        Written and returned. May be `x` or `residual` itself.

    Returns
    -------
    ndarray, (..., E)

    Raises
    ------
    TypeError, ValueError, NotImplementedError, KeyboardInterrupt
        As `Linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.layers import layer_norm
    >>> layer_norm(np.array([[1.0, 2.0, 3.0]]), eps=0).round(4)
    array([[-1.2247,  0.    ,  1.2247]])
    """
    return _norm("layer_norm", x, weight, bias, eps, residual, out, True)


def rms_norm(
    x: Any,
    weight: Any = None,
    *,
    eps: float = 1e-6,
    residual: Any = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """``y / sqrt(mean(y**2) + eps) * weight`` of ``y = x + residual`` over the last axis.

    Zhang and Sennrich 2019, arXiv 1910.07467.

    Parameters
    ----------
    x, weight, eps, residual, out
        As for `layer_norm`; `eps` is 1e-6 by default.

    Returns
    -------
    ndarray, (..., E)

    Raises
    ------
    TypeError, ValueError, NotImplementedError, KeyboardInterrupt
        As `Linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.layers import rms_norm
    >>> rms_norm(np.array([3.0, 4.0]), eps=0).round(4)
    array([0.8485, 1.1314])
    """
    return _norm("rms_norm", x, weight, None, eps, residual, out, False)


def _norm(
    function: str,
    x: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    residual: Any,
    out: np.ndarray | None,
    centred: bool,
) -> np.ndarray:
    x = _check_layers.channels(function, x)
    cols = x.shape[-1]
    if weight is not None:
        weight = _check_layers.vector(function, "weight", weight, cols, x.dtype)
    if bias is not None:
        bias = _check_layers.vector(function, "bias", bias, cols, x.dtype)
    eps = _check_layers.eps(function, eps)
    if residual is not None:
        residual = _check_layers.operand(function, "residual", residual, x.shape, x.dtype)
    result = out
    if out is None:
        result = np.empty(x.shape, x.dtype)
    else:
        _check.out(function, out, x.shape, x.dtype)
        if not _contiguous_rows(out) or _needs_temporary(out, [weight, bias], [x, residual]):
            result = np.empty(x.shape, x.dtype)
    if x.size:
        x, residual = (
            a if a is None or _contiguous_rows(a) else np.ascontiguousarray(a)
            for a in (x, residual)
        )
        other = None if residual is None else _plane(residual)
        _core.norm(_plane(x), other, _plane(result), weight, bias, eps, centred)
    return handed_over(result, out)


def _plane(a: np.ndarray) -> np.ndarray:
    """Rows (..., cols) as the door takes them, (1, many, rows, cols); a view if at most two leading
    axes do not lie one behind the other."""
    if a.ndim == 2:
        return a[None, None]
    if a.ndim == 3:
        return a[None]
    many = math.prod(a.shape[:-2])  # -1 would not do for empty arrays
    return a.reshape(1, many, *((1, *a.shape)[-2:]))


def _plane_of_heads(a: np.ndarray) -> np.ndarray:
    """(heads, ..., size) as (heads, many, rows, size)."""
    if a.ndim == 3:
        return a[:, None]
    many = math.prod(a.shape[1:-2])
    return a if a.ndim == 4 else a.reshape(len(a), many, *((1, *a.shape[1:])[-2:]))


def _contiguous_rows(a: np.ndarray) -> bool:
    return a.strides[-1] == a.itemsize or a.shape[-1] == 1


def _needs_temporary(
    out: np.ndarray, inputs: Sequence[np.ndarray | None], others: Sequence[np.ndarray | None]
) -> bool:
    """Whether `out` cannot be written while these are read: `others` only at the place that is
    written, but perhaps with other strides. Or is no view as a plane."""
    if out.ndim > 3 and not np.may_share_memory(_plane(out), out):
        return True
    apart = [a for a in others if a is not None and not _same_place(a, out)]
    return any(a is not None and np.may_share_memory(a, out) for a in (*inputs, *apart))


def _same_place(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.strides == b.strides and a.ctypes.data == b.ctypes.data)
