"""Where checkpoints keep the weights of attention: names of tensors, family by family.

A new family is a new entry of the table, or a new name in it; the code below knows none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pyattn import _check_checkpoints, _check_weights
from pyattn._check_weights import Weights


@dataclass(frozen=True)
class Family:
    """How models of one family name the tensors of an attention.

    Names are those within the attention; `inside` says where that may stand within a layer. What
    each is, a role: "q_weight", "q_bias" and so on, as `MultiHeadAttention.from_weights` has it,
    or "qkv_weight" and "qkv_bias" for all three in one. `tables` are of relative positions, which
    belong to some layer around it: who reads says which he knows of.
    """

    name: str
    inside: tuple[str, ...]
    tensors: Mapping[str, str]
    bias: str = "maybe"  # "always", "maybe", "never"
    transposed: bool = False  # (inputs, outputs)
    scale: float | None = None
    rooms: tuple[str, ...] = ("",)  # whatever begins so belongs to the attention: must be known
    tables: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()  # known there: tables for the caller, buffers that change nothing

    def required(self) -> list[str]:
        """Names, without which it is another family."""
        ends = ("_weight", "_bias") if self.bias == "always" else ("_weight",)
        return [name for role, name in self.tensors.items() if role.endswith(ends)]

    def excluded(self) -> list[str]:
        """Names, with which it is another family."""
        never = self.bias == "never"
        return [name for role, name in self.tensors.items() if never and role.endswith("_bias")]


def _modules(**modules: str) -> dict[str, str]:
    return {
        f"{role}_{kind}": f"{module}.{kind}"
        for role, module in modules.items()
        for kind in ("weight", "bias")
    }


TABLES = {"swin_table": "relative_position_bias_table", "nat_table": "rpb"}

FAMILIES = (
    Family(
        "bert",  # RoBERTa, XLM-R, MiniLM, BGE, E5, ELECTRA, Swin, NAT
        ("attention.",),
        _modules(q="self.query", k="self.key", v="self.value", out="output.dense"),
        bias="always",
        rooms=("self.", "output.dense."),
        tables={role: f"self.{name}" for role, name in TABLES.items()},
        beside=("self.relative_position_index",),
    ),
    Family(
        "deberta",
        ("attention.",),
        _modules(q="self.query_proj", k="self.key_proj", v="self.value_proj", out="output.dense"),
        bias="always",
        rooms=("self.", "output.dense."),
        beside=tuple(
            f"self.pos_{one}_proj.{kind}" for one in ("key", "query") for kind in ("weight", "bias")
        ),
    ),
    Family(
        "mpnet",
        ("attention.attn.", "attn."),
        _modules(q="q", k="k", v="v", out="o"),
        bias="always",
    ),
    Family(
        "distilbert",
        ("attention.",),
        _modules(q="q_lin", k="k_lin", v="v_lin", out="out_lin"),
        bias="always",
    ),
    Family("modernbert", ("attn.",), _modules(qkv="Wqkv", out="Wo")),
    Family(
        "gpt2",  # Conv1D
        ("attn.",),
        _modules(qkv="c_attn", out="c_proj"),
        bias="always",
        transposed=True,
        beside=("bias", "masked_bias"),
    ),
    Family(
        "llama",  # Mistral, Qwen, Gemma, SmolLM, gpt-oss
        ("self_attn.",),
        _modules(q="q_proj", k="k_proj", v="v_proj", out="o_proj")
        | {"q_norm": "q_norm.weight", "k_norm": "k_norm.weight", "sinks": "sinks"},
        beside=("rotary_emb.inv_freq",),
    ),
    Family(
        "clip",  # SigLIP, Whisper, BART, OPT, wav2vec2
        ("self_attn.", "attention."),
        _modules(q="q_proj", k="k_proj", v="v_proj", out="out_proj"),
    ),
    Family(
        "vit",  # of Hugging Face: DeiT, BEiT, DINOv2
        ("attention.",),
        _modules(q="attention.query", k="attention.key", v="attention.value", out="output.dense"),
        rooms=("attention.", "output.dense."),
    ),
    Family(
        "timm",  # Swin and NAT of their authors
        ("attn.",),
        _modules(qkv="qkv", out="proj"),
        tables=TABLES,
        beside=("relative_position_index",),
    ),
    Family(
        "t5",
        ("SelfAttention.", "EncDecAttention."),
        _modules(q="q", k="k", v="v", out="o"),
        bias="never",
        scale=1.0,
        beside=("relative_attention_bias.weight",),
    ),
    Family(
        "gguf",
        (),
        _modules(q="attn_q", k="attn_k", v="attn_v", out="attn_output")
        | {
            "q_norm": "attn_q_norm.weight",
            "k_norm": "attn_k_norm.weight",
            "sinks": "attn_sinks.weight",
        },
        rooms=("attn_",),
        beside=tuple(
            f"attn_{name}.{kind}"
            for name in ("norm", "norm_2", "output_norm", "rot_embd")
            for kind in ("weight", "bias")
        ),
    ),
    Family(
        "torch",
        ("self_attn.", "self_attention.", "attn."),
        {"qkv_weight": "in_proj_weight", "qkv_bias": "in_proj_bias"}
        | _modules(out="out_proj")
        | {"bias_k": "bias_k", "bias_v": "bias_v"},
    ),
    Family(
        "torch",  # with kdim or vdim
        ("self_attn.", "self_attention.", "attn."),
        {f"{role}_weight": f"{role}_proj_weight" for role in "qkv"}
        | {"qkv_bias": "in_proj_bias"}
        | _modules(out="out_proj")
        | {"bias_k": "bias_k", "bias_v": "bias_v"},
    ),
)
FORMATS = tuple(dict.fromkeys(family.name for family in FAMILIES))


class Found(NamedTuple):
    """The weights of one attention, and the scale that its family has instead of the usual one."""

    weights: Weights
    scale: float | None


def read(
    function: str,
    tensors: Any,
    prefix: Any,
    format: Any,
    num_heads: int | None = None,
    kv_heads: int | None = None,
    table: str | None = None,
) -> Found:
    """The weights under `prefix`, and the table of relative positions that is asked for, if there
    is one. Nothing but these is touched; the heads divide a fused weight."""
    _check_checkpoints.mapping(function, tensors)
    prefix = _check_checkpoints.prefix(function, prefix)
    _check_checkpoints.format(function, format, FORMATS)
    there = dict.fromkeys(name for name in tensors if isinstance(name, str))  # in their order
    places = [
        (family, prefix + inside)
        for family in FAMILIES
        if format in ("auto", family.name)
        for inside in ("", *family.inside)
    ]
    family, base = _check_checkpoints.one_place(
        function, there, prefix, places, [place for place in places if _stands(there, *place)]
    )
    wanted = {**family.tensors}
    if table in family.tables:
        wanted[table] = family.tables[table]
    known = [base + name for name in (*wanted.values(), *family.beside)]
    rooms = tuple(base + room for room in family.rooms)
    _check_checkpoints.nothing_else(function, there, rooms, family.name, known)
    names = {r: base + name for r, name in wanted.items() if base + name in there}
    arrays = {r: _check_checkpoints.tensor(function, n, tensors[n]) for r, n in names.items()}
    weights = Weights(function, arrays, {role: repr(name) for role, name in names.items()})
    if family.transposed:
        for role in [role for role in arrays if role.endswith("_weight")]:
            arrays[role] = arrays[role].T
    _split(weights, num_heads, kv_heads)
    return Found(weights, family.scale)


def _stands(there: Collection[str], family: Family, base: str) -> bool:
    return all(base + name in there for name in family.required()) and not any(
        base + name in there for name in family.excluded()
    )


def _split(weights: Weights, num_heads: int | None, kv_heads: int | None) -> None:
    """One tensor of queries, keys and values, one after the other, becomes three views of it."""
    if "qkv_weight" in weights.arrays:
        _cut(weights, "weight", _check_weights.thirds(weights, num_heads, kv_heads))
    if "qkv_bias" in weights.arrays:
        _cut(weights, "bias", _check_weights.rows_of_all(weights))


def _cut(weights: Weights, kind: str, rows: list[int]) -> None:
    fused, name = (part.pop(f"qkv_{kind}") for part in (weights.arrays, weights.names))
    ends = np.cumsum(rows)
    for part, array in zip("qkv", np.split(fused, ends[:-1]), strict=True):
        weights.arrays[f"{part}_{kind}"] = array
        weights.names[f"{part}_{kind}"] = f"{part} of {name}"
