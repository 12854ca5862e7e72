"""Vectors of images by a vision transformer in a directory or a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyattn import _check
from pyattn.models import _check_image_encoder, _check_models
from pyattn.models._batches import batches, gathered
from pyattn.models._image_checkpoint import ImageCheckpoint
from pyattn.models._image_network import ImageNetwork
from pyattn.models._image_processing import Colours
from pyattn.models._pooling import pooled

BATCH_TOKENS = 8 * 257  # what the layers compute at once; the result does not depend on it
MODES = ("cls", "mean", "max")


class ImageEncoder:
    """A vision transformer, such as ViT, DeiT and DINOv2: images to vectors.

    Made by `ImageEncoder.from_pretrained`. Images may have any height and width that are multiples
    of `patch_size`: positions are resampled as the model's family does it. The bits of a result
    depend on its image and on nothing else: not on the other images, the batches or the threads.

    An encoder does not change once it is made. Many threads may use one at the same time, a forked
    process may go on with it, and it can be pickled, weights included.

    Attributes
    ----------
    dim : int
        Numbers of an embedding.
    patch_size : int
        Height and width of a patch in pixels.
    image_size : (height, width)
        What the model was made for. Nothing is resized here.
    grid : (height, width)
        The patches of an image of that size.
    prefix_tokens : int
        Tokens before those of the patches: the class token, then DeiT's token of distillation,
        then registers.
    channels : int
    mean, std : tuple of float, (channels,)
        Colours from 0 to 1 become ``(image - mean) / std``.
    num_layers, num_heads : int
    model_type : str
        As in config.json, "dinov2" for example; of timm the architecture.
    pooling : tuple of str
        What is done by default to make one vector of those of the tokens. See `encode`.
    nbytes : int
        Of the weights in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image  # doctest: +SKIP
    >>> from pyattn.models import ImageEncoder
    >>> encoder = ImageEncoder.from_pretrained("dinov2-small")  # doctest: +SKIP
    >>> encoder  # doctest: +SKIP
    <ImageEncoder dinov2, 12 layers, 6 heads, dim 384, patches of 14 x 14, cls>
    >>> image = np.asarray(Image.open("cat.jpg").resize((224, 224)))  # doctest: +SKIP
    >>> encoder.encode([image]).shape  # doctest: +SKIP
    (1, 384)
    >>> encoder.features(image[None]).shape  # doctest: +SKIP
    (1, 257, 384)
    """

    def __init__(self) -> None:
        _check_models.not_made_directly("ImageEncoder", "path")

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        storage: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> ImageEncoder:
        """Read an encoder from a directory of Hugging Face's or timm's form, or from an ONNX file.

        Nothing is downloaded, and nothing that a file says is run. A directory needs config.json
        and model.safetensors, or the parts that model.safetensors.index.json names;
        preprocessor_config.json tells the scale of colours.

        Parameters
        ----------
        path : path
            A directory with a model of type vit, deit, dinov2 or dinov2_with_registers; with a vit,
            deit or deit3 of timm, tiny to large; or a file ``*.onnx`` that PyTorch exported of a
            vit, deit or dinov2, whatever follows it in the graph. Weights in float16, bfloat16
            (not in ONNX files), float32 or float64; computed in float32. ``~`` is the home
            directory.
        storage : {None, "bfloat16", "float16"}
            How the weights of the layers are kept, as in `pyattn.layers.Linear`: float32, or
            rounded to half of the memory.
        mean, std : sequence of float, (channels,), optional
            Of the colours from 0 to 1, which become ``(image - mean) / std``. Default: as the files
            say; without that, as models of the family usually have them, and a model of timm is
            refused.

        Returns
        -------
        ImageEncoder

        Raises
        ------
        ModelError
            A file is missing or broken, a tensor is missing or has another shape, the model is of
            another kind. It says which file, which tensor and what was expected. Sizes are compared
            before a weight is read, so that a broken file takes no memory.
        TypeError, ValueError
            `mean` or `std` that are not as many finite numbers as there are channels, or deviations
            that are not above 0; an unknown `storage`.
        ImportError
            An ONNX file without the package: ``pip install 'pyattn[onnx]'``.
        MemoryError

        Notes
        -----
        Heads for a task, and the pooler of Hugging Face's ViT, are left out: an embedding is the
        class token after the last norm, the ``last_hidden_state[:, 0]`` of transformers. Of a
        distilled DeiT, timm gives the mean of that and of the token of distillation instead:
        ``encoder.features(images)[:, :2].mean(axis=1)``.

        Examples
        --------
        >>> from pyattn.models import ImageEncoder, ModelError
        >>> try:
        ...     ImageEncoder.from_pretrained("/nowhere")
        ... except ModelError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        /nowhere: there is no such directory. ...
        """
        place, colours = Path(os.path.expanduser(path)), Colours(mean, std)
        config, tensors, processing, pooling = ImageCheckpoint.read(place, colours)
        self = cls.__new__(cls)
        self.model_type = config.model_type
        self.num_layers, self.num_heads = config.layers, config.heads
        self.patch_size, self.channels = config.patch, config.channels
        self.image_size = processing.size or tuple(config.patch * side for side in config.grid)
        self.prefix_tokens, self.pooling = config.prefix, (pooling,)
        self._hidden, self._processing = config.hidden, processing
        self._network = ImageNetwork(config, tensors, storage)
        return self

    @property
    def dim(self) -> int:
        return self._hidden * len(self.pooling)

    @property
    def grid(self) -> tuple[int, int]:
        return self._grid(self.image_size)

    @property
    def mean(self) -> tuple[float, ...]:
        return self._processing.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self._processing.std

    @property
    def nbytes(self) -> int:
        return self._network.nbytes

    def __repr__(self) -> str:
        return (
            f"<ImageEncoder {self.model_type}, {self.num_layers} layers, {self.num_heads} heads, "
            f"dim {self.dim}, patches of {self.patch_size} x {self.patch_size}, "
            f"{' + '.join(self.pooling)}>"
        )

    def encode(
        self,
        images: Iterable[Any],
        *,
        batch_tokens: int = BATCH_TOKENS,
        pooling: str | Sequence[str] | None = None,
        normalize: bool = False,
    ) -> np.ndarray:
        """One vector of each image.

        Parameters
        ----------
        images : array_like, (n, H, W, C), or iterable of (H, W, C)
            uint8, from 0 to 255, or floats, from 0 to 1, before the scaling of colours that the
            model was trained with, which is done here. H and W are multiples of `patch_size`; those
            of a list may differ. One image is refused: use ``[image]``. An iterator may give the
            same array with other numbers again and again.
        batch_tokens : int
            How many tokens are computed at once; an image of 224 x 224 has 257 with patches of 14.
            Changes memory and speed, not the result.
        pooling : str or sequence of str, optional
            "cls" (the class token), "mean" or "max" of the patches; several are put side by side.
            Default: as the model has it, `pooling`.
        normalize : bool
            To length 1.

        Returns
        -------
        ndarray of float32, (n, dim)
            In the order of the images.

        Raises
        ------
        TypeError
            An image that is neither uint8 nor floating point, with its number.
        ValueError
            Another number of channels, a size that is no multiple of the patch, floats far above 1;
            an unknown pooling, a budget below 1.
        MemoryError, KeyboardInterrupt
            Also whatever the iterable itself raises, unchanged.

        Examples
        --------
        >>> encoder.encode(np.zeros((2, 224, 224, 3), np.uint8)).shape  # doctest: +SKIP
        (2, 384)
        >>> encoder.encode([], pooling=("cls", "mean")).shape  # doctest: +SKIP
        (0, 768)
        """
        function = "encode"
        modes = self.pooling
        if pooling is not None:
            modes = _check_models.pooling(function, pooling, MODES)
        normalize = _check.flag(function, "normalize", normalize)
        budget = _check_models.budget(function, batch_tokens)
        groups = batches(self._checked(function, images), budget, self._tokens)
        blocks = (self._embeddings(batch, modes, normalize) for batch in groups)
        return gathered(blocks, self._hidden * len(modes))

    def features(self, images: Iterable[Any], *, batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
        """What the last layer makes of each token, after the last norm.

        Parameters
        ----------
        images : array_like, (n, H, W, C), or iterable of (H, W, C)
            As for `encode`, of one size, at least one.
        batch_tokens : int
            As for `encode`.

        Returns
        -------
        ndarray of float32, (n, prefix_tokens + patches, hidden size)
            The ``last_hidden_state`` of transformers. The patches come row by row:
            ``x[:, encoder.prefix_tokens:].reshape(n, H // patch, W // patch, -1)``.

        Raises
        ------
        TypeError, ValueError, MemoryError, KeyboardInterrupt
            As `encode`; images of several sizes, none at all.

        Examples
        --------
        >>> encoder.features(np.zeros((2, 224, 280, 3), np.uint8)).shape  # doctest: +SKIP
        (2, 321, 384)
        """
        function = "features"
        budget = _check_models.budget(function, batch_tokens)
        checked = list(self._checked(function, images))
        _check_image_encoder.one_size(function, checked)
        result = np.empty((len(checked), self._tokens(checked[0]), self._hidden), np.float32)
        done = 0
        for batch in batches(checked, budget, self._tokens):
            self._states(batch, out=result[done : done + len(batch)])
            done += len(batch)
        return result

    def attention_maps(self, image: Any, layer: int = -1, head: int | None = None) -> np.ndarray:
        """How much the class token attends to each patch of an image, in one layer.

        Parameters
        ----------
        image : array_like, (H, W, C)
            As for `encode`.
        layer : int
            From 0; -1 is the last.
        head : int, optional
            From 0; -1 is the last. Default: all.

        Returns
        -------
        ndarray of float32, (heads, height, width) or (height, width)
            On the grid of patches. What is missing to a sum of 1 goes to the tokens before them.

        Raises
        ------
        TypeError, ValueError
            As `encode`; no such layer or head.

        Notes
        -----
        Only the class token's row is computed, in memory and time proportional to the patches.
        Caron et al. 2021, arXiv 2104.14294, show these maps to follow the outlines of things.

        Examples
        --------
        >>> encoder.attention_maps(image).shape  # doctest: +SKIP
        (6, 16, 16)
        """
        function = "attention_maps"
        layer = _check_models.index(function, "layer", layer, self.num_layers)
        if head is not None:
            head = _check_models.index(function, "head", head, self.num_heads)
        image = self._image(function, "image", image)
        grid = self._grid(image.shape)
        vectors = self._processing.vectors([image], self.patch_size)
        x = self._network.states(vectors, grid, layer)[0]
        weights = self._network.layers[layer].weights_of_first(x)[:, self.prefix_tokens :]
        maps = weights.reshape(-1, *grid)
        return maps if head is None else maps[head]

    def _checked(self, function: str, images: Any) -> Iterator[np.ndarray]:
        # What computes its images one by one may put all of them into the same array.
        lasting = isinstance(images, (np.ndarray, list, tuple))
        for n, given in enumerate(_check_image_encoder.images(function, images)):
            image = self._image(function, f"images[{n}]", given)
            yield image if lasting else image.copy()

    def _image(self, function: str, name: str, image: Any) -> np.ndarray:
        size = tuple(max(side, 1) * self.patch_size for side in self.grid)
        return _check_image_encoder.image(
            function, name, image, self.channels, self.patch_size, size
        )

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[0] // self.patch_size, shape[1] // self.patch_size

    def _tokens(self, image: np.ndarray) -> int:
        rows, columns = self._grid(image.shape)
        return self.prefix_tokens + rows * columns

    def _embeddings(
        self, batch: list[np.ndarray], modes: tuple[str, ...], normalize: bool
    ) -> np.ndarray:
        """Of images of any sizes, each of which is computed together."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for n, image in enumerate(batch):
            sizes.setdefault(image.shape, []).append(n)
        embeddings = np.empty((len(batch), self._hidden * len(modes)), np.float32)
        for numbers in sizes.values():
            tokens = self._tokens(batch[numbers[0]])
            x = np.empty((len(numbers), tokens, self._hidden), np.float32)
            self._states([batch[n] for n in numbers], out=x)
            offsets = np.arange(len(numbers) + 1) * tokens
            rows = x.reshape(-1, self._hidden)
            embeddings[numbers] = pooled(rows, offsets, modes, normalize, self.prefix_tokens)
        return embeddings

    def _states(self, images: Sequence[np.ndarray], out: np.ndarray) -> None:
        """The last layer's of images of one size."""
        vectors = self._processing.vectors(images, self.patch_size)
        self._network(vectors, self._grid(images[0].shape), out)
