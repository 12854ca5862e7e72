"""The bias: a primitive one, or a sum of these. And how a call takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyattn import _check_terms
from pyattn._pieces import GridToeplitz, Shape, Slopes, Table, Toeplitz, places
from pyattn._structured import Structured


class Bias(Structured):
    """A structured bias; made by the functions of `pyattn.biases`.

    Immutable; pickles; combines with other biases and with float arrays by ``+``, up to 8 of them.

    Attributes
    ----------
    shape : tuple of int or None
        Broadcasts to the shape of the scores, (..., H, L, S). None: any extent.
    dtype : numpy.dtype
        That of the array; float64 for a sum and for `alibi`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import biases
    >>> bias = biases.relative(np.arange(4.0), 2, 3) + np.array([0, 0, -np.inf])
    >>> np.asarray(bias)
    array([[  1.,   2., -inf],
           [  0.,   1., -inf]])
    """

    __slots__ = ()
    kind, operators = "bias", "+"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        for part in self.parts():
            if None in part.shape:
                _check_terms.sizes_unknown(part.shape)
        return super().__array__(dtype, copy)

    def __add__(self, other: Any) -> Bias:
        return _sum(self, as_bias("bias + array", other, "array"))

    def __radd__(self, other: Any) -> Bias:
        return _sum(as_bias("array + bias", other, "array"), self)

    def parts(self) -> tuple[Primitive, ...]:
        """The primitive biases whose sum this is."""

    def __repr__(self) -> str:
        return f"<bias {' + '.join(p.name for p in self.parts())} {self.shape}>"


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Primitive(Bias):
    """One piece, under the name of the function that made it."""

    name: str
    shape: Shape
    dtype: np.dtype
    piece: Table | Toeplitz | GridToeplitz | Slopes

    def parts(self) -> tuple[Primitive, ...]:
        return (self,)

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.piece.at(*places(self.shape, i, j))


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Sum(Bias):
    shape: Shape
    dtype: np.dtype
    items: tuple[Primitive, ...]

    def parts(self) -> tuple[Primitive, ...]:
        return self.items

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        total = np.zeros((), self.dtype)
        for part in self.items:
            total = total + part.at(i, j)
        return total


def _sum(a: Bias, b: Bias) -> Bias:
    shape = _check_terms.common_shape("bias + bias", a.shape, b.shape)
    items = a.parts() + b.parts()
    _check_terms.parts("bias + bias", len(items))
    return Sum(shape, np.dtype(np.float64), items)


def as_bias(function: str, value: Any, name: str = "bias") -> Bias:
    """What a user gave as `bias`: a `Bias`, or a float array as one."""
    if isinstance(value, Bias):
        return value
    if isinstance(value, Structured):
        _check_terms.other_kind(function, name, value.kind)
    return dense_bias(function, name, value)


def dense_bias(function: str, name: str, value: Any) -> Bias:
    array = _check_terms.bias_array(function, name, value)
    _check_terms.not_too_many_axes(function, name, array.ndim)
    return Primitive("dense", array.shape, array.dtype, Table.dense(array))


def bias_terms(
    function: str, bias: Bias, scores: tuple[int, ...]
) -> list[tuple[str, int, np.ndarray]]:
    """The bias for a call with scores of that shape, (..., H, L, S).

    Returns
    -------
    list of (kind, -1, array)
        The terms of pyattn/_pieces.py. All are added. Nothing is copied.
    """
    _check_terms.not_too_many_axes(function, "query", len(scores))
    _check_terms.broadcasts(function, "bias", bias.shape, scores)
    for part in bias.parts():
        if isinstance(part.piece, Slopes):  # a distance is not that of another query
            _check_terms.same_sizes(function, "bias", part.shape, scores)
    return [(p.piece.kind, -1, p.piece.term(p.shape, scores)) for p in bias.parts()]
