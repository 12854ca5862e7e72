"""Keys that every query sees, besides those of the sequence: as `torch.nn.MultiheadAttention` has
them.

Whatever masks, windows and lengths say, they are seen; so none of these is widened. A key with
weights of its own (`bias_k`, `bias_v`) is a second, unmasked call, merged with the first by their
log-sum-exps. A key of zeros (`add_zero_attn`) has the score 0 and adds nothing, which is what a
sink of 0 does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyattn.attention import attention, merge_attention


class ExtraKeys(NamedTuple):
    """Both kinds, in the order in which they follow the keys of the sequence."""

    key: np.ndarray | None  # (1, kv_heads, size)
    value: np.ndarray | None
    zero: bool

    def __bool__(self) -> bool:
        return self.zero or self.key is not None

    def sinks(self, sinks: np.ndarray | None, heads: int) -> np.ndarray | None:
        """With the key of zeros among them."""
        if not self.zero:
            return sinks
        return np.zeros(heads) if sinks is None else np.logaddexp(sinks, 0)

    def merge(
        self, q: np.ndarray, heads: np.ndarray, lse: np.ndarray, options: dict[str, Any]
    ) -> list[np.ndarray]:
        """Put into `heads` (..., L, H, D) what the keys add, where `lse` (..., H, L) is that of the
        sequence alone. Returns what is left for the weights of that, a factor, and the weights of
        the keys, (..., H, L, 1) all."""
        total, weights = lse, []
        if self.key is not None:
            # Queries one by one: how a row is summed depends on how many there are.
            own, own_lse = attention(
                q[..., None, :, :],
                self.key,
                self.value,
                layout="blhd",
                return_lse=True,
                **options,
            )
            own, own_lse = own[..., 0, :, :], own_lse[..., 0].swapaxes(-1, -2)
            merged, total = merge_attention(
                [heads.swapaxes(-3, -2), own.swapaxes(-3, -2)], [lse, own_lse]
            )
            heads[...] = merged.swapaxes(-3, -2)
            weights.append(np.exp(own_lse - total))
        if self.zero:
            weights.append(np.exp(-total))
        return [share[..., None] for share in (np.exp(lse - total), *weights)]
