"""Exact multi-head attention on CPUs. NumPy arrays in, NumPy arrays out.

>>> import numpy as np, pyattn
>>> x = np.random.default_rng(0).standard_normal((2, 4, 10, 16), dtype=np.float32)
>>> pyattn.attention(x, x, x).shape
(2, 4, 10, 16)
"""

from pyattn import biases, images, layers, masks, positional, reference
from pyattn.attention import (
    attention,
    attention_topk,
    attention_varlen,
    attention_weights,
    merge_attention,
)
from pyattn.cache import KVCache
from pyattn.linear_attention import linear_attention
from pyattn.multihead import MultiHeadAttention
from pyattn.runtime import get_isa, get_num_threads, set_isa, set_num_threads, show_config

__version__ = "0.1.0"

__all__ = [
    "KVCache",
    "MultiHeadAttention",
    "attention",
    "attention_topk",
    "attention_varlen",
    "attention_weights",
    "biases",
    "get_isa",
    "get_num_threads",
    "images",
    "layers",
    "linear_attention",
    "masks",
    "merge_attention",
    "positional",
    "reference",
    "set_isa",
    "set_num_threads",
    "show_config",
]
