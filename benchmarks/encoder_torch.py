"""BERT in PyTorch, in all ways that may be the fastest; of torch.compile nothing is tried."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.encoder_inputs import Model

States = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ways(model: Model, threads: int) -> dict[str, States]:
    """From ids (B, L) and lengths (B,) to the states of the last layer, (B, L, hidden)."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", message=".*nested tensors")  # a prototype, it says
    found = {
        "nn.TransformerEncoder": own_encoder(model, fused=True, nested=False),
        "nn.TransformerEncoder, nested": own_encoder(model, fused=True, nested=True),
        "nn.TransformerEncoder, not fused": own_encoder(model, fused=False, nested=False),
    }
    try:
        return found | {f"BertModel, {kind}": bert_model(model, kind) for kind in ("sdpa", "eager")}
    except ImportError:
        return found


def mask_of(ids: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])


def bert_model(model: Model, attention: str) -> States:
    from transformers import BertModel, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    bert = BertModel.from_pretrained(
        model.directory, attn_implementation=attention, add_pooling_layer=False
    ).eval()

    def states(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            mask = mask_of(ids, lengths).long()
            return bert(torch.from_numpy(ids), mask).last_hidden_state.numpy()

    return states


def own_encoder(model: Model, fused: bool, nested: bool) -> States:
    w = {name: torch.from_numpy(a) for name, a in model.weights.items()}
    words, positions, types = (
        w[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )
    norm = [w[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias")]
    layers = encoder_layers(model, nested)

    def states(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        torch.backends.mha.set_fastpath_enabled(fused)
        with torch.inference_mode():
            x = words[torch.from_numpy(ids)] + (positions[: ids.shape[1]] + types[0])
            x = torch.nn.functional.layer_norm(x, (model.hidden,), *norm, model.eps)
            return layers(x, src_key_padding_mask=~mask_of(ids, lengths)).numpy()

    return states


def encoder_layers(model: Model, nested: bool) -> torch.nn.Module:
    layer = torch.nn.TransformerEncoderLayer(
        model.hidden,
        model.heads,
        model.inner,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=model.eps,
        batch_first=True,
    )
    layers = torch.nn.TransformerEncoder(layer, model.layers, enable_nested_tensor=nested)
    names = {
        "self_attn.out_proj": "attention.output.dense",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm1": "attention.output.LayerNorm",
        "norm2": "output.LayerNorm",
    }
    state = {}
    for n in range(model.layers):
        for kind in ("weight", "bias"):
            state[f"layers.{n}.self_attn.in_proj_{kind}"] = model.joined(n, kind)
            for own, name in names.items():
                own_weights = model.weights[f"encoder.layer.{n}.{name}.{kind}"]
                state[f"layers.{n}.{own}.{kind}"] = own_weights
    layers.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    return layers.eval()
