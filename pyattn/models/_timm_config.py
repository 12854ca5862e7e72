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
from pyattn.models._image_sizes import told_by_tensors
from pyattn.models._safetensors import Tensors

ARCHITECTURE, ARGS = "architecture", "model_args"
BEGINNINGS = ("vit_", "deit_", "deit3_")
SIZES = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "giant of DINOv2": 1536}
HEAD = 64  # in all of these
POOLING = {"token": "cls", "avg": "mean"}
# Of what models are made with, this changes nothing, or the tensors tell it.
TOLD = (
    "attn_drop_rate",
    "class_token",
    "depth",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_pad",
    "dynamic_img_size",
    "embed_dim",
    "fc_norm",
    "fix_init",
    "img_size",
    "in_chans",
    "init_values",
    "mlp_ratio",
    "no_embed_class",
    "num_classes",
    "patch_drop_rate",
    "patch_size",
    "pos_drop_rate",
    "pre_norm",
    "proj_drop_rate",
    "qk_norm",
    "qkv_bias",
    "reg_tokens",
    "strict_img_size",
    "weight_init",
)


def timm_config(
    settings: Settings, tensors: Tensors
) -> tuple[ImageConfig, Settings, tuple[int, int] | None, str]:
    """The configuration, the settings of colours, height and width of images if they are there, and
    how the model makes one vector of those of an image."""
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
    made_with = settings.part(ARGS)
    # Of old files the top level is what pretrained_cfg is today.
    given = settings.part("pretrained_cfg") if "pretrained_cfg" in settings.values else settings
    size = _size(made_with, given)
    config = told_by_tensors(
        tensors,
        prefix,
        found,
        path=path,
        model_type=name,
        head_dim=HEAD,
        activation="gelu",
        eps=TIMM.eps,
        size=size,
    )
    if config.hidden not in SIZES.values():
        found = f"{name!r} with {config.hidden} numbers per token"
        _check_image_encoder.architecture(path, found, known)
    return config, given, size, _pooling(settings, made_with, config)


def _pooling(settings: Settings, made_with: Settings, config: ImageConfig) -> str:
    """And whatever the model was made with must be known."""
    values = {key: value for key, value in made_with.values.items() if value is not None}
    pool = settings.text("global_pool", values.pop("global_pool", "token"))
    supported = {"num_heads": config.heads, "act_layer": "gelu"}
    for key, value in values.items():
        if key in supported and value != supported[key]:
            _check_files.unsupported(settings.path, f"{ARGS}: {key}", value, [supported[key]])
        if key not in supported and key not in TOLD:
            _check_files.unsupported(settings.path, ARGS, key, [*supported, *TOLD])
    if pool not in POOLING:
        _check_files.unsupported(settings.path, "global_pool", pool, POOLING)
    return POOLING[pool]


def _size(made_with: Settings, given: Settings) -> tuple[int, int] | None:
    """Height and width of the images that the model was made for."""
    if made_with.values.get("img_size") is not None:
        return made_with.pair("img_size")
    _, *size = given.numbers("input_size", 3, (0, 0, 0))
    return tuple(map(int, size)) if min(size) >= 1 else None
