"""The sizes of an image encoder as its tensors tell them, where no file lists them."""

from __future__ import annotations

from math import isqrt, prod
from pathlib import Path

from pyattn.models import _check_image_encoder
from pyattn.models._encoder_tensors import place
from pyattn.models._image_config import ImageConfig
from pyattn.models._image_families import ImageFamily
from pyattn.models._safetensors import Tensors


def told_by_tensors(
    tensors: Tensors,
    prefix: str,
    family: ImageFamily,
    *,
    path: Path,
    model_type: str,
    head_dim: int,
    activation: str,
    eps: float,
    size: tuple[int, int] | None = None,
) -> ImageConfig:
    """Positions must be those of images of the `size`, height and width, or else of a square.
    Every shape is compared with these sizes later."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return _check_image_encoder.sized(place(tensors), tensors.entries, prefix + name, axes)

    start = family.layer.format(0)
    gated = family.gated is not None and f"{prefix}{start}{family.gated[0]}.weight" in tensors
    expand, contract = family.gated if gated else (family.expand, family.contract)
    inner = shape(f"{start}{contract}.weight", 2)[1]
    hidden, channels, patch, _ = shape(f"{family.patches}.weight", 4)
    rows, registers = shape(family.positions, 3)[1], 0
    if family.registers:
        registers = shape(family.registers, 3)[1]
    # Of the tokens before the patches none, those without registers or all have a position.
    possible = (0, len(family.tokens), len(family.tokens) + registers)
    squares = [(n, (isqrt(rows - n), isqrt(rows - n))) for n in possible if rows > n]
    known = [(n, (size[0] // patch, size[1] // patch)) for n in possible] if size else []
    placed, grid = _check_image_encoder.grid_of(
        place(tensors),
        prefix + family.positions,
        rows,
        [(n, grid) for n, grid in known + squares if min(grid) and n + prod(grid) == rows],
    )
    _check_image_encoder.heads_of(path, hidden, head_dim)
    return ImageConfig(
        path,
        model_type,
        family,
        hidden,
        1 + max(layer_numbers(tensors, prefix, family), default=0),
        hidden // head_dim,
        inner,
        gated=gated and shape(f"{start}{expand}.weight", 2)[0] == 2 * inner,
        channels=channels,
        patch=patch,
        grid=grid,
        registers=registers,
        placed=placed,
        biased=f"{prefix}{start}{next(iter(family.projections))}.bias" in tensors,
        activation=activation,
        eps=eps,
    )


def layer_numbers(tensors: Tensors, prefix: str, family: ImageFamily) -> set[int]:
    """Those that stand in names."""
    start = prefix + family.layer.partition("{")[0]
    found = {name[len(start) :].partition(".")[0] for name in tensors if name.startswith(start)}
    return {int(number) for number in found if number.isdecimal() and len(number) < 5}
