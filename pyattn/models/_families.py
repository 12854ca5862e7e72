"""What each family of encoders calls its settings and its tensors.

All are the encoder of Devlin et al. 2018, arXiv 1810.04805: embeddings and their norm, then layers
of attention, sum, norm, two linear maps with an activation between, sum, norm. A new family of that
form is a new entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
NORM = "embeddings.LayerNorm"
RELATIVE = "encoder.relative_attention_bias.weight"

# The names of config.json, and the activations of pyattn.layers.Linear.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


@dataclass(frozen=True)
class Family:
    """`settings` are names in config.json where they differ from BERT's, which are the keys.
    `layer` is what the names of a layer's tensors begin with, the others are of modules in it."""

    attention: str  # its format in MultiHeadAttention.from_tensors
    projections: tuple[str, str, str, str]
    layer: str = "encoder.layer.{}."
    attention_norm: str = "attention.output.LayerNorm"
    expand: str = "intermediate.dense"
    contract: str = "output.dense"
    output_norm: str = "output.LayerNorm"
    settings: Mapping[str, str] = field(default_factory=dict)
    types: bool = True  # there is a table of segments
    positions_after_padding: bool = False  # the first position is pad_token_id + 1
    relative: bool = False  # there are relative position biases


BERT = Family(
    "bert",
    (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ),
)
ROBERTA = Family("bert", BERT.projections, positions_after_padding=True)
DISTILBERT = Family(
    "distilbert",
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
    layer="transformer.layer.{}.",
    attention_norm="sa_layer_norm",
    expand="ffn.lin1",
    contract="ffn.lin2",
    output_norm="output_layer_norm",
    settings={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    types=False,
)
MPNET = Family(
    "mpnet",
    ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),
    attention_norm="attention.LayerNorm",
    types=False,
    positions_after_padding=True,
    relative=True,
)
FAMILIES = {  # by model_type
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": DISTILBERT,
    "mpnet": MPNET,
}
