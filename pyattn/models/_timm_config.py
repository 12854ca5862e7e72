"""What config.json of the package timm says of an image encoder.

It tells an architecture by its name, and of sizes only those of images: the tensors tell the rest.
https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/vision_transformer.py
"""

from __future__ import annotations

from dataclasses import replace

from pyattn.models import _check_files, _check_image_encoder
from pyattn.models._encoder_tensors import common_prefix
from pyattn.models._files import Settings
from pyattn.models._image_config import ImageConfig
from pyattn.models._image_families import TIMM
from pyattn.models._image_processing import ImageProcessing
from pyattn.models._image_sizes import told_by_tensors
from pyattn.models._safetensors import Tensors

ARCHITECTURE = "architecture"
BEGINNINGS = ("vit_", "deit_", "deit3_")
SIZES = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "giant of DINOv2": 1536}
HEAD = 64  # in all of these
POOLING = {"token": "cls", "avg": "mean"}


def timm_config(settings: Settings, tensors: Tensors) -> tuple[ImageConfig, ImageProcessing, str]:
    """And how the model makes one vector of those of an image."""
    path, name = settings.path, settings.text(ARCHITECTURE)
    known = [f"{'/'.join(BEGINNINGS)}{size} ({n})" for size, n in SIZES.items()]
    if not name.startswith(BEGINNINGS):
        _check_image_encoder.architecture(path, repr(name), known)
    prefix = common_prefix(tensors, f"{TIMM.patches}.weight")
    layer = prefix + TIMM.layer.format(0)
    found = replace(
        TIMM,
        tokens=TIMM.tokens if prefix + TIMM.tokens[1] in tensors else TIMM.tokens[:1],
        registers=TIMM.registers if prefix + TIMM.registers in tensors else None,
        scales=TIMM.scales if layer + TIMM.scales[0] in tensors else None,
    )
    config = told_by_tensors(
        tensors,
        prefix,
        found,
        path=path,
        model_type=name,
        head_dim=HEAD,
        activation="gelu",
        eps=TIMM.eps,
    )
    if config.hidden not in SIZES.values():
        found = f"{name!r} with {config.hidden} numbers per token"
        _check_image_encoder.architecture(path, found, known)
    pool = settings.text("global_pool", "token")
    if pool not in POOLING:
        _check_files.unsupported(path, "global_pool", pool, POOLING)
    given = settings.values.get("pretrained_cfg")
    given = Settings(path, given if isinstance(given, dict) else {})
    usual_mean, usual_std = TIMM.colours(config.channels)
    mean = given.numbers("mean", config.channels, usual_mean)
    std = given.numbers("std", config.channels, usual_std)
    _check_image_encoder.deviations(path, std)
    _, *size = given.numbers("input_size", 3, (0, 0, 0))
    size = tuple(map(int, size)) if min(size) >= 1 else None
    return config, ImageProcessing(mean, std, size=size), POOLING[pool]
