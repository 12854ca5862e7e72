"""Positional encodings: everything that tells attention where things stand.

Added to the input, or instead of it:

==================== ==================================================
`sinusoidal`         sines and cosines (Vaswani), in all orders in use
`sinusoidal_2d`      the same on grids: MAE, DETR
`resample_1d`        learned tables for other lengths
`resample_2d`        learned tables for other grids: ViT, DINOv2
`floater`            the solution of an equation of motion
`rnn_positions`      the states of a recurrent network
`add_positions`      ``x + table[positions]``, at memory speed
==================== ==================================================

Turning queries and keys:

==================== ==================================================
`rope`               rotary positions, at memory speed
`rope_frequencies`   with linear, NTK, YaRN, LongRoPE, llama3 scalings
`rope_from_config`   of a checkpoint's configuration
`rope_table`         cosines and sines, computed once or one's own
`rope_axial`         for grids, with `grid_positions`
`rope_sections`      for several positions per token (M-RoPE)
`xpos_frequencies`   with decay (xPos)
==================== ==================================================

Inside attention, for ``pyattn.attention(..., bias=)``. Structured, no L x S array:

==================== ==================================================
`t5_bias`            a number per head and bucket (`t5_buckets`)
`swin_bias`          a number per head and offset on a grid
`swin_v2_bias`       the same from a small network
`kerple_bias`        logarithm or power of the distance
`fire_bias`          a small network of the relative distance
==================== ==================================================

and `pyattn.biases.alibi`, `relative`, `relative_grid`. Of the following the scores depend on the
queries or on each other, so they are dense, (..., H, L, S):

====================== ================================================
`shaw_bias`            relative keys, and `shaw_values`
`transformer_xl_bias`  relative keys with a bias of their own
`deberta_bias`         both directions, in buckets (`deberta_buckets`)
`cope_bias`            positions counted by gates
====================== ================================================

A table of all of them, who uses them and which to take: docs/positional.md.
"""

from pyattn.positional._added import add_positions
from pyattn.positional._content import shaw_bias, shaw_values, transformer_xl_bias
from pyattn.positional._cope import cope_bias
from pyattn.positional._deberta import deberta_bias, deberta_buckets
from pyattn.positional._dynamic import floater, rnn_positions
from pyattn.positional._frequencies import (
    RopeFrequencies,
    grid_positions,
    rope_axial,
    rope_sections,
    xpos_frequencies,
)
from pyattn.positional._learned import resample_1d, resample_2d
from pyattn.positional._relative import swin_bias, t5_bias, t5_buckets
from pyattn.positional._relative_functions import fire_bias, kerple_bias, swin_v2_bias
from pyattn.positional._rope import RopeTable, rope, rope_table
from pyattn.positional._scaling import rope_frequencies, rope_from_config
from pyattn.positional._sinusoids import sinusoidal, sinusoidal_2d

__all__ = [
    "RopeFrequencies",
    "RopeTable",
    "add_positions",
    "cope_bias",
    "deberta_bias",
    "deberta_buckets",
    "fire_bias",
    "floater",
    "grid_positions",
    "kerple_bias",
    "resample_1d",
    "resample_2d",
    "rnn_positions",
    "rope",
    "rope_axial",
    "rope_frequencies",
    "rope_from_config",
    "rope_sections",
    "rope_table",
    "shaw_bias",
    "shaw_values",
    "sinusoidal",
    "sinusoidal_2d",
    "swin_bias",
    "swin_v2_bias",
    "t5_bias",
    "t5_buckets",
    "transformer_xl_bias",
    "xpos_frequencies",
]
