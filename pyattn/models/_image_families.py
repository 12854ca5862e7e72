"""What each family of image encoders calls its settings and its tensors.

All are the vision transformer of Dosovitskiy et al. 2021, arXiv 2010.11929: patches as vectors,
tokens before them, positions; then layers, each a norm, attention, sum, norm, two linear maps with
an activation between, sum; then a norm. A new family of that form is a new entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageFamily:
    """Names of tensors, those of a layer without its `layer`, which they begin with. Modules have
    a weight and a bias. `mean` and `std` of colours are what counts if no file tells."""

    attention: str  # its format in MultiHeadAttention.from_tensors
    projections: Mapping[str, int]  # modules, and how many times the hidden size they make
    output: str
    attention_norm: str
    mlp_norm: str
    expand: str
    contract: str
    gated: tuple[str, str] | None = None  # instead of these two: gate and values in one, and back
    scales: tuple[str, str] | None = None  # what attention and linear maps are multiplied with
    patches: str = "embeddings.patch_embeddings.projection"
    positions: str = "embeddings.position_embeddings"
    tokens: tuple[str, ...] = ("embeddings.cls_token",)  # before the patches, with a position
    registers: str | None = None  # after these, without one
    layer: str = "encoder.layer.{}."
    norm: str = "layernorm"
    inner: str | None = "intermediate_size"  # the setting; None: "mlp_ratio" tells
    antialias: bool = False  # how positions are resampled
    eps: float = 1e-6
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    rooms: tuple[str, ...] = (  # whatever begins so must be known
        "encoder.layer.",
        "embeddings.distillation_token",
        "embeddings.register_tokens",
    )

    def colours(self, channels: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        """`mean` and `std` if they are of that many channels."""
        return (self.mean, self.std) if channels == len(self.mean) else (None, None)


VIT = ImageFamily(
    "vit",
    {f"attention.attention.{name}": 1 for name in ("query", "key", "value")},
    output="attention.output.dense",
    attention_norm="layernorm_before",
    mlp_norm="layernorm_after",
    expand="intermediate.dense",
    contract="output.dense",
    eps=1e-12,
    mean=HALF,
    std=HALF,
)
DEIT = replace(
    VIT,
    tokens=("embeddings.cls_token", "embeddings.distillation_token"),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
)
DINOV2 = ImageFamily(
    "vit",
    VIT.projections,
    output=VIT.output,
    attention_norm="norm1",
    mlp_norm="norm2",
    expand="mlp.fc1",
    contract="mlp.fc2",
    gated=("mlp.weights_in", "mlp.weights_out"),
    scales=("layer_scale1.lambda1", "layer_scale2.lambda1"),
    inner=None,
)
FAMILIES = {  # by model_type
    "vit": VIT,
    "deit": DEIT,
    "dinov2": DINOV2,
    "dinov2_with_registers": replace(
        DINOV2, registers="embeddings.register_tokens", antialias=True
    ),
}

# Of timm, whose configuration tells an architecture by its name: see _timm_config.py.
TIMM = ImageFamily(
    "timm",
    {"attn.qkv": 3},
    output="attn.proj",
    attention_norm="norm1",
    mlp_norm="norm2",
    expand="mlp.fc1",
    contract="mlp.fc2",
    gated=("mlp.fc1", "mlp.fc2"),
    scales=("ls1.gamma", "ls2.gamma"),
    patches="patch_embed.proj",
    positions="pos_embed",
    tokens=("cls_token", "dist_token"),
    registers="reg_token",
    layer="blocks.{}.",
    norm="norm",
    inner=None,
    antialias=True,
    mean=(),  # of these there are all kinds
    std=(),
    rooms=("blocks.", "patch_embed.", "norm_pre.", "fc_norm.", "attn_pool."),
)
