"""Real text encoders: the BERT family from a directory of Hugging Face's form, batch inference.

Needs the extra: ``pip install 'pyattn[models]'``. See docs/models.md.

>>> from pyattn.models import TextEncoder
>>> encoder = TextEncoder.from_pretrained("all-MiniLM-L6-v2")  # doctest: +SKIP
>>> encoder.encode(["one text", "another"]).shape  # doctest: +SKIP
(2, 384)
"""

from pyattn.models._errors import (
    BrokenFileError,
    MissingFileError,
    ModelError,
    TensorError,
    UnsupportedModelError,
)
from pyattn.models.text_encoder import TextEncoder

__all__ = [
    "BrokenFileError",
    "MissingFileError",
    "ModelError",
    "TensorError",
    "TextEncoder",
    "UnsupportedModelError",
]
