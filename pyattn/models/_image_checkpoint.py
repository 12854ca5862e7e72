"""An image encoder in a directory or a file, of whatever form."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from pyattn.models import _check_files
from pyattn.models._encoder_tensors import common_prefix, encoder_tensors, only_known
from pyattn.models._files import Settings, find_weights
from pyattn.models._image_config import ImageConfig
from pyattn.models._image_processing import UNKNOWN, Colours, ImageProcessing
from pyattn.models._onnx_config import onnx_config
from pyattn.models._safetensors import Tensors
from pyattn.models._timm_config import ARCHITECTURE, timm_config

ONNX = ".onnx"


class ImageCheckpoint(NamedTuple):
    """Its `tensors` are those expected; `pooling` is how it makes one vector of an image."""

    config: ImageConfig
    tensors: Tensors
    processing: ImageProcessing
    pooling: str

    @classmethod
    def read(cls, path: Path, colours: Colours = UNKNOWN) -> ImageCheckpoint:
        """All shapes are compared before anything is made that is as large as settings say."""
        pooling = "cls"
        if path.name.endswith(ONNX):
            config, tensors, size = onnx_config(path)
            processing = partial(ImageProcessing.told, Settings(path, {}), Colours._fields, size)
        else:
            _check_files.is_directory(path)
            settings = Settings.read(path / "config.json", "the configuration of the model")
            weights = find_weights(path)
            tensors = Tensors.of_files(weights.files, weights.places)
            if ARCHITECTURE in settings.values:
                config, given, size, pooling = timm_config(settings, tensors)
                processing = partial(ImageProcessing.told, given, Colours._fields, size)
            else:
                config = ImageConfig.read(settings)
                processing = partial(ImageProcessing.read, path)
        family = config.family
        prefix = common_prefix(tensors, f"{family.patches}.weight")
        found = encoder_tensors(tensors, prefix, config.expected(), config.path)
        only_known(tensors, found, [prefix + room for room in family.rooms])
        return cls(config, found, processing(family, config.channels, colours), pooling)
