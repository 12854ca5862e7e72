"""What this build of pyattn is, and what the model in a directory is."""

from __future__ import annotations

import argparse
import os

from pyattn import show_config
from pyattn.models import TextEncoder


def run(options: argparse.Namespace) -> int:
    show_config()
    if options.model is not None:
        encoder = TextEncoder.from_pretrained(options.model)
        # A name that is not UTF-8 cannot be printed as it is.
        name = os.fsencode(options.model).decode(errors="backslashreplace")
        lines = {
            "model": f"{name} ({encoder.model_type})",
            "layers": f"{encoder.num_layers}, of {encoder.num_heads} heads",
            "embedding": f"{encoder.dim} numbers, {' + '.join(encoder.pooling)}"
            + (", normalized" if encoder.normalize else ", not normalized"),
            "texts": f"at most {encoder.max_tokens} tokens, longer ones are cut",
            "memory": f"{encoder.nbytes / 1e6:.1f} MB of weights",
        }
        for name, value in lines.items():
            print(f"{name:10} {value}")
    return 0
