"""The files of a directory that an encoder is made of."""

from __future__ import annotations

from pathlib import Path

from pyattn.models import _check_files
from pyattn.models._config import Config
from pyattn.models._files import find_weights
from pyattn.models._sentence import SentenceConfig
from pyattn.models._tokenizer import find_tokenizer


def model_files(directory: Path) -> list[Path]:
    """Those that `TextEncoder.from_pretrained` reads, whatever else lies beside them.

    While they stay as they are, so does the encoder.
    """
    _check_files.is_directory(directory)
    sentence = SentenceConfig.read(directory)
    folder = sentence.transformer
    config, weights = Config.read(folder), find_weights(folder)
    index = [weights.index] if weights.index else []
    return [*sentence.files, config.path, find_tokenizer(folder), *index, *weights.files]
