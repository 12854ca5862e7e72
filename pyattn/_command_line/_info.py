"""What this build of pyattn is, and what a model is."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pyattn import show_config
from pyattn.models import TextEncoder, TextGenerator
from pyattn.models._files import Settings
from pyattn.models._llama_config import FAMILIES
from pyattn.models.text_generator import GGUF


def run(options: argparse.Namespace) -> int:
    show_config()
    if options.model is not None:
        # A name that is not UTF-8 cannot be printed as it is.
        name = os.fsencode(options.model).decode(errors="backslashreplace")
        described = _generator if _generates(options.model) else _encoder
        for what, value in described(options.model, name).items():
            print(f"{what:10} {value}")
    return 0


def _generates(path: Path) -> bool:
    config = Settings.read_optional(path / "config.json").values
    return path.name.endswith(GGUF) or config.get("model_type") in list(FAMILIES)


def _encoder(path: Path, name: str) -> dict[str, str]:
    encoder = TextEncoder.from_pretrained(path)
    return {
        "model": f"{name} ({encoder.model_type})",
        "layers": f"{encoder.num_layers}, of {encoder.num_heads} heads",
        "embedding": f"{encoder.dim} numbers, {' + '.join(encoder.pooling)}"
        + (", normalized" if encoder.normalize else ", not normalized"),
        "texts": f"at most {encoder.max_tokens} tokens, longer ones are cut",
        "memory": f"{encoder.nbytes / 1e6:.1f} MB of weights",
    }


def _generator(path: Path, name: str) -> dict[str, str]:
    model = TextGenerator.from_pretrained(path)
    heads = f"{model.num_heads} heads over {model.num_kv_heads} of {model.head_dim}"
    return {
        "model": f"{name} ({model.model_type})",
        "layers": f"{model.num_layers}, of {heads}",
        "context": f"{model.context} tokens, of {model.vocab_size}",
        "memory": f"{model.nbytes / 1e6:.1f} MB of weights",
    }
