"""Embeddings of texts by the encoder in a directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyattn import _check
from pyattn.models import _check_files, _check_models
from pyattn.models._batches import batches, gathered
from pyattn.models._config import Config
from pyattn.models._encoder_tensors import common_prefix, encoder_tensors
from pyattn.models._families import WORDS
from pyattn.models._files import find_weights
from pyattn.models._network import Network
from pyattn.models._pooling import MODES, pooled
from pyattn.models._progress import reported
from pyattn.models._safetensors import Tensors
from pyattn.models._sentence import SentenceConfig
from pyattn.models._tokenizer import TextTokenizer, find_tokenizer

BATCH_TOKENS = 2048  # what the layers compute at once; the result does not depend on it


class TextEncoder:
    """A text encoder of the BERT family, such as MiniLM, BGE, E5 and MPNet: texts to vectors.

    Made by `TextEncoder.from_pretrained`. Texts are packed one after the other, so that no time is
    spent on padding, in the order in which they come. The bits of an embedding depend on its text
    and on nothing else: not on the other texts, their order, the batches or the threads.

    An encoder does not change once it is made. Many threads may use one at the same time, a forked
    process may go on with it, and it can be pickled, weights included.

    Attributes
    ----------
    dim : int
        Numbers of an embedding.
    max_tokens : int
        Of a text, special ones included; longer texts are cut.
    num_layers, num_heads : int
    model_type : str
        As in config.json, "bert" for example.
    pooling : tuple of str
        What is done by default to make one embedding of those of the tokens. See `encode`.
    normalize : bool
        Whether embeddings have length 1 by default.
    nbytes : int
        Of the weights in memory.

    Examples
    --------
    >>> from pyattn.models import TextEncoder
    >>> encoder = TextEncoder.from_pretrained("all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> encoder  # doctest: +SKIP
    <TextEncoder bert, 6 layers, 12 heads, dim 384, at most 256 tokens, mean, normalized>
    >>> embeddings = encoder.encode(["A cat.", "A kitten.", "The stock market."])  # doctest: +SKIP
    >>> (embeddings @ embeddings.T).round(2)  # doctest: +SKIP
    array([[1.  , 0.79, 0.18],
           [0.79, 1.  , 0.18],
           [0.18, 0.18, 1.  ]], dtype=float32)
    """

    def __init__(self) -> None:
        _check_models.not_made_directly("TextEncoder", "directory")

    @classmethod
    def from_pretrained(
        cls, directory: str | os.PathLike[str], *, storage: str | None = None
    ) -> TextEncoder:
        """Read an encoder from a directory of Hugging Face's or sentence-transformers' form.

        Nothing is downloaded, and nothing that a file says is run. Needed are config.json,
        tokenizer.json and model.safetensors, or the parts that model.safetensors.index.json names.
        modules.json and what belongs to it tell pooling, normalisation and the longest text.

        Parameters
        ----------
        directory : path
            With a model of type bert, roberta, xlm-roberta, camembert, distilbert or mpnet.
            Weights in float16, bfloat16, float32 or float64; computed in float32. ``~`` is the home
            directory.
        storage : {None, "bfloat16", "float16"}
            How the weights of the layers are kept, as in `pyattn.layers.Linear`: float32, or
            rounded to half of the memory. The table of words stays as it is in the file.

        Returns
        -------
        TextEncoder

        Raises
        ------
        ModelError
            A file is missing or broken, a tensor is missing or has another shape, the model is of
            another kind. It says which file, which tensor and what was expected. Sizes are compared
            before a weight is read, so that a broken file takes no memory.
        ImportError
            The extra is missing: ``pip install 'pyattn[models]'``.
        MemoryError

        Notes
        -----
        Without modules.json the embedding is the mean over tokens, not normalised, as
        sentence-transformers has it. Prompts in config_sentence_transformers.json are not put in
        front of texts: do that yourself, ``["query: " + text for text in texts]``.

        Examples
        --------
        >>> from pyattn.models import ModelError, TextEncoder
        >>> try:
        ...     TextEncoder.from_pretrained("/nowhere")
        ... except ModelError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        /nowhere: there is no such directory. ...
        """
        directory = Path(os.path.expanduser(directory))
        _check_files.is_directory(directory)
        sentence = SentenceConfig.read(directory)
        folder = sentence.transformer
        config = Config.read(folder)
        weights = find_weights(folder)
        tensors = Tensors.of_files(weights.files, weights.places)
        prefix = common_prefix(tensors, WORDS)
        tensors = encoder_tensors(tensors, prefix, config.expected(), config.path)
        longest = min(sentence.longest, config.longest)
        path = find_tokenizer(folder)
        tokenizer = TextTokenizer(path, longest, sentence.lower_case)
        _check_files.vocabulary(path, tokenizer.vocabulary, config.vocabulary)
        self = cls.__new__(cls)
        self.model_type, self.num_heads = config.model_type, config.heads
        self.max_tokens = longest
        self.pooling, self.normalize = sentence.pooling, sentence.normalize
        self._tokenizer = tokenizer
        self._network = Network(config, tensors, storage)
        return self

    @property
    def dim(self) -> int:
        return self._network.hidden * len(self.pooling)

    @property
    def num_layers(self) -> int:
        return len(self._network.layers)

    @property
    def nbytes(self) -> int:
        return self._network.nbytes

    def __repr__(self) -> str:
        return (
            f"<TextEncoder {self.model_type}, {self.num_layers} layers, {self.num_heads} heads, "
            f"dim {self.dim}, at most {self.max_tokens} tokens, {' + '.join(self.pooling)}"
            f"{', normalized' if self.normalize else ''}>"
        )

    def encode(
        self,
        texts: Iterable[str],
        *,
        batch_tokens: int = BATCH_TOKENS,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        progress: bool | Callable[[int], Any] = False,
    ) -> np.ndarray:
        """The embeddings of texts.

        Parameters
        ----------
        texts : iterable of str
            A list, an array or column of strings, a generator... An empty text is one of special
            tokens only. Longer ones than `max_tokens` are cut, without a word: `count_tokens` tells
            which. Lone surrogates count as U+FFFD. One string is refused: use ``[text]``.
        batch_tokens : int
            How many tokens are computed at once. Changes memory and speed, not the result.
        pooling : str or sequence of str, optional
            "mean" of the tokens, "cls" (the first token), "max", "mean_sqrt_len_tokens" (their sum
            by the root of their number), "weightedmean" (the n-th token counts n times),
            "lasttoken"; several are put side by side. Default: as the model has it, `pooling`.
        normalize : bool, optional
            To length 1. Default: as the model has it.
        progress : bool or function
            True shows a bar (of tqdm); a function is called with the number of texts done so far.

        Returns
        -------
        ndarray of float32, (n, dim)
            In the order of the texts.

        Raises
        ------
        TypeError
            One string; an element that is not a string, with its number.
        ValueError
            An unknown pooling, a budget below 1.
        ImportError
            ``progress=True`` without tqdm.
        MemoryError, KeyboardInterrupt
            Also whatever the iterable itself raises, unchanged.

        Examples
        --------
        >>> encoder.encode(["one text", "another"]).shape  # doctest: +SKIP
        (2, 384)
        >>> encoder.encode([]).shape  # doctest: +SKIP
        (0, 384)
        """
        _check_models.progress("encode", progress)
        blocks = self._of_texts("encode", texts, batch_tokens, pooling, normalize)
        return self._gathered("encode", reported(blocks, progress, texts), pooling)

    def stream(
        self,
        texts: Iterable[str],
        *,
        batch_tokens: int = BATCH_TOKENS,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
    ) -> Iterator[np.ndarray]:
        """The embeddings of texts in blocks, as they are ready, with bounded memory.

        For more texts than fit into memory. At most one text more than a block has is read ahead.
        If the iterable raises, so does the stream: the blocks before it are valid, and those texts
        that were read since the last one are lost.

        Parameters
        ----------
        texts, batch_tokens, pooling, normalize
            As for `encode`.

        Returns
        -------
        iterator of ndarray of float32, (k, dim)
            One after the other they are the result of `encode`, bit by bit.

        Raises
        ------
        TypeError, ValueError, MemoryError, KeyboardInterrupt
            As `encode`: those of options at once, those of texts when it is their turn.

        Examples
        --------
        >>> with open("texts.txt") as file:  # doctest: +SKIP
        ...     for block in encoder.stream(line.rstrip("\\n") for line in file):
        ...         index.add(block)
        """
        return self._of_texts("stream", texts, batch_tokens, pooling, normalize)

    def encode_tokens(
        self,
        tokens: Iterable[Sequence[int]],
        *,
        batch_tokens: int = BATCH_TOKENS,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
    ) -> np.ndarray:
        """The embeddings of texts that are given as the numbers of their tokens.

        Parameters
        ----------
        tokens : iterable of sequences of int
            Special tokens included, as `tokenize` gives them. Nothing is added or cut. A text of no
            tokens at all has the embedding 0.
        batch_tokens, pooling, normalize
            As for `encode`.

        Returns
        -------
        ndarray of float32, (n, dim)

        Raises
        ------
        TypeError
            Tokens that are not integers.
        ValueError
            A token outside the vocabulary, with the number of its text and its place; more tokens
            than the model has positions for (which may be more than `max_tokens`).
        MemoryError, KeyboardInterrupt

        Examples
        --------
        >>> encoder.encode_tokens(encoder.tokenize(["one text", "another"])).shape  # doctest: +SKIP
        (2, 384)
        """
        function, longest = "encode_tokens", self._network.longest
        tokens = _check_models.several(function, "tokens", tokens, "encode([text])")
        checked = (
            _check_models.token_ids(function, f"tokens[{n}]", ids, longest)
            for n, ids in enumerate(tokens)
        )
        blocks = self._blocks(function, "tokens", checked, batch_tokens, pooling, normalize)
        return self._gathered(function, blocks, pooling)

    def tokenize(self, texts: Iterable[str]) -> list[list[int]]:
        """The numbers of the tokens of each text, with special ones, cut to `max_tokens`.

        Parameters
        ----------
        texts : iterable of str

        Returns
        -------
        list of list of int

        Raises
        ------
        TypeError
            As `encode`.

        Examples
        --------
        >>> encoder.tokenize(["Hello", ""])  # doctest: +SKIP
        [[101, 7592, 102], [101, 102]]
        """
        return [self._tokenizer.ids(text) for text in _each("tokenize", texts)]

    def count_tokens(self, texts: Iterable[str]) -> np.ndarray:
        """How many tokens each text has before it is cut, with special ones.

        Parameters
        ----------
        texts : iterable of str

        Returns
        -------
        ndarray of int64, (n,)
            Those texts are cut for which it is more than `max_tokens`.

        Raises
        ------
        TypeError
            As `encode`.

        Examples
        --------
        >>> encoder.count_tokens(["Hello", "word " * 1000]) > encoder.max_tokens  # doctest: +SKIP
        array([False,  True])
        """
        counts = [self._tokenizer.count(text) for text in _each("count_tokens", texts)]
        return np.array(counts, np.int64)

    def token_embeddings(self, text: str) -> tuple[list[str], np.ndarray]:
        """What the last layer makes of each token of a text.

        Parameters
        ----------
        text : str

        Returns
        -------
        tokens : list of str
            As they are in the vocabulary, special ones included, cut to `max_tokens`.
        embeddings : ndarray of float32, (tokens, hidden size)
            Not normalised.

        Raises
        ------
        TypeError
            Not a string.

        Examples
        --------
        >>> tokens, embeddings = encoder.token_embeddings("A kitten.")  # doctest: +SKIP
        >>> tokens, embeddings.shape  # doctest: +SKIP
        (['[CLS]', 'a', 'kitten', '.', '[SEP]'], (5, 384))
        """
        return self._inside("token_embeddings", text, self.num_layers)

    def attention_weights(
        self, text: str, layer: int, head: int | None = None
    ) -> tuple[list[str], np.ndarray]:
        """How much each token of a text attends to each, in one layer.

        Parameters
        ----------
        text : str
        layer : int
            From 0; -1 is the last.
        head : int, optional
            From 0; -1 is the last. Default: all.

        Returns
        -------
        tokens : list of str
        weights : ndarray of float32, (heads, tokens, tokens) or (tokens, tokens)
            Row ``i`` is how token ``i`` divides its attention: it sums to 1.

        Raises
        ------
        TypeError
            Not a string, not an integer.
        ValueError
            No such layer or head.

        Examples
        --------
        >>> tokens, weights = encoder.attention_weights("A kitten.", 0)  # doctest: +SKIP
        >>> weights.shape  # doctest: +SKIP
        (12, 5, 5)
        """
        function = "attention_weights"
        layer = _check_models.index(function, "layer", layer, self.num_layers)
        if head is not None:
            head = _check_models.index(function, "head", head, self.num_heads)
        tokens, x = self._inside(function, text, layer)
        weights = self._network.layers[layer].weights(x)
        return tokens, weights if head is None else weights[head]

    def _inside(self, function: str, text: str, layers: int) -> tuple[list[str], np.ndarray]:
        """The tokens of a text and what the first layers make of them."""
        ids, tokens = self._tokenizer.ids_and_tokens(_check_models.text(function, "text", text))
        flat, rows = np.array(ids, np.int64), self._network.vocabulary
        _check_models.within_vocabulary(function, "text", 0, [flat], rows)
        return tokens, self._network(flat, np.array([0, len(flat)]), layers)

    def _of_texts(
        self, function: str, texts: Any, batch_tokens: Any, pooling: Any, normalize: Any
    ) -> Iterator[np.ndarray]:
        ids = (np.array(self._tokenizer.ids(text), np.int64) for text in _each(function, texts))
        return self._blocks(function, "texts", ids, batch_tokens, pooling, normalize)

    def _blocks(
        self,
        function: str,
        name: str,
        ids: Iterable[np.ndarray],
        batch_tokens: Any,
        pooling: Any,
        normalize: Any,
    ) -> Iterator[np.ndarray]:
        """The embeddings, a batch at a time. Options are checked at once, not with the first."""
        budget = _check_models.budget(function, batch_tokens)
        modes = self._modes(function, pooling)
        if normalize is None:
            normalize = self.normalize
        normalize = _check.flag(function, "normalize", normalize)
        return self._computed(function, name, batches(ids, budget, len), modes, normalize)

    def _computed(
        self,
        function: str,
        name: str,
        groups: Iterable[list[np.ndarray]],
        modes: tuple[str, ...],
        normalize: bool,
    ) -> Iterator[np.ndarray]:
        done = 0
        for batch in groups:
            _check_models.within_vocabulary(function, name, done, batch, self._network.vocabulary)
            # Equal lengths side by side: relative biases are made for one length.
            order = np.argsort([len(text) for text in batch], kind="stable")
            ordered = [batch[n] for n in order]
            offsets = np.cumsum([0, *map(len, ordered)])
            ids = np.concatenate(ordered, dtype=np.int64, casting="unsafe")  # they are within
            x = self._network(ids, offsets)
            embeddings = np.empty((len(batch), x.shape[1] * len(modes)), np.float32)
            embeddings[order] = pooled(x, offsets, modes, normalize)
            yield embeddings
            done += len(batch)

    def _gathered(self, function: str, blocks: Iterable[np.ndarray], pooling: Any) -> np.ndarray:
        return gathered(blocks, self._network.hidden * len(self._modes(function, pooling)))

    def _modes(self, function: str, pooling: Any) -> tuple[str, ...]:
        return self.pooling if pooling is None else _check_models.pooling(function, pooling, MODES)


def _each(function: str, texts: Any) -> Iterator[str]:
    return (
        _check_models.text(function, f"texts[{n}]", text)
        for n, text in enumerate(_check_models.several(function, "texts", texts))
    )
