"""Beyond one machine: attention over chunked dask arrays, and encoding of partitioned texts.

Needs the extra ``dask``. `docs/scaling.md` says when it pays, and when one process is better.

>>> import dask.array as da
>>> import pyattn.dask
>>> x = da.random.default_rng(0).standard_normal((2, 4, 100, 16), chunks=(1, 2, 40, 16))
>>> pyattn.dask.attention(x, x, x, causal=True)
dask.array<attention, shape=(2, 4, 100, 16), dtype=float64, chunksize=(1, 2, 40, 16), chunktype=numpy.ndarray>
"""  # noqa: E501

from pyattn import _check_dask

try:
    import dask.array as _  # noqa: F401
except ImportError as error:
    _check_dask.not_installed(error)

from pyattn.dask._attention import attention
from pyattn.dask._encode import encode

__all__ = ["attention", "encode"]
