"""Texts that a language model goes on with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyattn import _check_cache, _check_numbers
from pyattn.models import _check_files, _check_generator, _check_models
from pyattn.models._chat import directory_template, gguf_template
from pyattn.models._decoder import Decoder
from pyattn.models._decoder_config import decoder_tensors
from pyattn.models._decoding import Request, all_logits, answered
from pyattn.models._files import find_weights
from pyattn.models._generator_tokens import directory_tokens, gguf_tokens
from pyattn.models._gguf import Gguf
from pyattn.models._gguf_config import BLOCK, gguf_config, stored_names
from pyattn.models._llama_config import read_config
from pyattn.models._safetensors import Tensors
from pyattn.models._sampling import Sampler

GGUF = ".gguf"
TOGETHER = 16  # prompts that are gone on with at once; the result does not depend on it
STORAGES = ("auto", None, "float16", "bfloat16")


class TextGenerator:
    """A language model of the Llama family, such as SmolLM, Qwen or Mistral: goes on with texts.

    Made by `TextGenerator.from_pretrained`. Prompts are computed together without padding, and each
    has the same answer, bit by bit, as alone.

    A generator does not change once it is made. Many threads may use one at the same time, a forked
    process may go on with it, and it can be pickled, weights included.

    Attributes
    ----------
    context : int
        How many tokens there may be in all, of prompt and answer.
    vocab_size : int
        The length of the logits.
    num_layers, num_heads, num_kv_heads, head_dim : int
    model_type : str
        As in config.json or in the GGUF file, "llama" for example.
    cache_dtype : str
        How keys and values are kept.
    nbytes : int
        Of the weights in memory.

    Examples
    --------
    >>> from pyattn.models import TextGenerator
    >>> generator = TextGenerator.from_pretrained("SmolLM2-135M-Instruct")  # doctest: +SKIP
    >>> generator.generate(["The capital of France is"], max_tokens=6)  # doctest: +SKIP
    [' Paris, the capital of France']
    """

    def __init__(self) -> None:
        _check_generator.not_made_directly()

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        storage: str | None = "auto",
        cache_dtype: str = "float32",
    ) -> TextGenerator:
        """The generator in a directory of Hugging Face's form, or in a GGUF file.

        A directory needs config.json, tokenizer.json and model.safetensors, or its index and parts;
        generation_config.json, tokenizer_config.json and chat_template.jinja tell the tokens that
        end a text, and how a chat is written.

        Parameters
        ----------
        path : path
            A directory with a model of type llama, mistral, qwen2, qwen3 or smollm3, or a file
            ``*.gguf`` of the architecture llama, qwen2 or qwen3. Computed in float32. ``~`` is the
            home directory.
        storage : {"auto", None, "float16", "bfloat16"}
            How the weights of the layers are kept. "auto": as the file has them, so that nothing is
            lost, and float16 where it has blocks of less than that. Otherwise as in
            `pyattn.layers.Linear`: None is float32.
        cache_dtype : {"float32", "float16", "bfloat16", "int8"}
            How keys and values are kept: see `pyattn.KVCache`.

        Returns
        -------
        TextGenerator

        Raises
        ------
        ModelError
            A file is missing or broken, a tensor is missing or has another shape, the model is of
            another kind. It says which file, which tensor and what was expected. Sizes are compared
            before a weight is read, so that a broken file takes no memory.
        ImportError
            The extra is missing: ``pip install 'pyattn[models]'``, or ``'pyattn[gguf]'``.
        TypeError, ValueError
            An unknown storage or dtype.
        MemoryError

        Examples
        --------
        >>> from pyattn.models import ModelError, TextGenerator
        >>> try:
        ...     TextGenerator.from_pretrained("/nowhere")
        ... except ModelError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        /nowhere: there is no such directory. ...
        """
        function = "TextGenerator.from_pretrained"
        path = Path(os.path.expanduser(path))
        _check_generator.storage(function, storage, STORAGES)
        cache_dtype = _check_cache.dtype(f"{function}, cache_dtype", cache_dtype)
        self = cls.__new__(cls)
        self.cache_dtype = cache_dtype
        if path.name.endswith(GGUF):
            file = Gguf.read(path)
            config = gguf_config(file)
            tensors = decoder_tensors(
                config, file.tensors, stored_names(config), BLOCK.partition("{")[0]
            )
            self._tokens, special = gguf_tokens(file)
            self._template = gguf_template(file, special)
        else:
            _check_files.is_directory(path)
            config, weights = read_config(path), find_weights(path)
            tensors = decoder_tensors(config, Tensors.of_files(weights.files, weights.places))
            self._tokens, special = directory_tokens(path)
            self._template = directory_template(path, special)
        _check_files.vocabulary(self._tokens.path, self._tokens.vocabulary, config.vocabulary)
        self._path, self.model_type, self.context = path, config.model_type, config.context
        self.vocab_size, self.num_layers = config.vocabulary, config.layers
        self.num_heads, self.num_kv_heads = config.heads, config.kv_heads
        self.head_dim = config.head_dim
        self._decoder = Decoder(config, tensors, storage)
        return self

    @property
    def nbytes(self) -> int:
        return self._decoder.nbytes

    def __repr__(self) -> str:
        return (
            f"<TextGenerator {self.model_type}, {self.num_layers} layers, {self.num_heads} heads "
            f"over {self.num_kv_heads} of {self.head_dim}, context {self.context}, "
            f"cache {self.cache_dtype}>"
        )

    def generate(
        self,
        prompts: Iterable[str],
        *,
        max_tokens: int | None = 128,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> list[str]:
        """What the model goes on with, of each prompt.

        An answer ends before a token that ends texts, before a stop string, or after `max_tokens`.

        Parameters
        ----------
        prompts : iterable of str
            One string is refused: use ``[prompt]``. They may have any lengths; there is no padding.
            Special tokens are recognized in them, as in the text that `chat_prompt` makes.
        max_tokens : int or None
            Of an answer. None: until the context is full.
        temperature : float
            0: the most probable token is taken, always. Otherwise tokens are drawn by the softmax
            of ``logits / temperature``.
        top_k : int, optional
            Draw from the `top_k` most probable tokens only, and those that are equal to the last.
        top_p : float, optional
            Draw from as few of the most probable tokens as have together the probability `top_p`,
            of what `top_k` leaves.
        seed : int, optional
            The same seed draws the same tokens again. The prompt with the number n has random
            numbers of its own, made of the seed and n: they do not depend on the other prompts, and
            the same prompt several times has several answers. Default: another one every time.
        stop : str or sequence of str
            An answer ends before the first of these.

        Returns
        -------
        list of str
            In the order of the prompts, without the prompts, stop strings and special tokens. A
            character of which not all bytes came is left out.

        Raises
        ------
        TypeError
            One string; a prompt that is not a string, with its number; options of another kind.
        ValueError
            A prompt that does not fit into the context together with `max_tokens`; options out of
            range.
        ModelError
            Logits that are NaN.
        MemoryError, KeyboardInterrupt

        Examples
        --------
        >>> generator.generate(["One, two,", "A, b,"], max_tokens=4, stop="\\n")  # doctest: +SKIP
        [' three, four,', ' c, d']
        """
        function = "generate"
        checked = [
            _check_models.text(function, f"prompts[{n}]", prompt)
            for n, prompt in enumerate(
                _check_models.several(function, "prompts", prompts, "[prompt]")
            )
        ]
        requests = self._requests(
            function, "prompts[{}]", checked, max_tokens, temperature, top_k, top_p, seed, stop
        )
        texts = [""] * len(requests)
        for at in range(0, len(requests), TOGETHER):
            group = requests[at : at + TOGETHER]
            for n, text in answered(self._decoder, self._tokens, group, self.cache_dtype):
                texts[at + n] += text
        return texts

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int | None = 128,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """What the model goes on with, piece by piece, as soon as it is certain.

        Parameters
        ----------
        prompt : str
        max_tokens, temperature, top_k, top_p, seed, stop
            As for `generate`.

        Returns
        -------
        iterator of str
            Pieces, none empty; together they are what ``generate([prompt])`` returns. No piece has
            half a character, or the beginning of a stop string that comes.

        Raises
        ------
        TypeError, ValueError, ModelError, MemoryError, KeyboardInterrupt
            As `generate`: those of arguments at once.

        Examples
        --------
        >>> for piece in generator.stream("The capital of France is"):  # doctest: +SKIP
        ...     print(piece, end="", flush=True)
        """
        function = "stream"
        checked = [_check_models.text(function, "prompt", prompt)]
        requests = self._requests(
            function, "prompt", checked, max_tokens, temperature, top_k, top_p, seed, stop
        )
        found = answered(self._decoder, self._tokens, requests, self.cache_dtype)
        return (text for _, text in found if text)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text that a chat is for the model, up to where its answer begins.

        Parameters
        ----------
        messages : sequence of dict
            Each with "role" ("system", "user" or "assistant") and "content", strings.

        Returns
        -------
        str
            A prompt for `generate` and `stream`, by the model's own template.

        Raises
        ------
        TypeError, ValueError
            No messages of that form; messages that the template refuses, as when roles do not take
            turns.
        ModelError
            The model has no chat template, or a broken one.
        ImportError
            jinja2 is missing: ``pip install 'pyattn[models]'``.

        Notes
        -----
        A template is a program that comes with the model; it runs in jinja2's sandbox. Special
        tokens in a message count as such, whoever wrote it.

        Examples
        --------
        >>> prompt = generator.chat_prompt([{"role": "user", "content": "Hi"}])  # doctest: +SKIP
        >>> generator.generate([prompt])  # doctest: +SKIP
        ['Hello! How can I help you today?']
        """
        function = "chat_prompt"
        return self._template.prompt(function, _check_generator.messages(function, messages))

    def tokenize(self, text: str) -> list[int]:
        """The numbers of the tokens of a text, as `generate` reads it.

        Parameters
        ----------
        text : str
            Lone surrogates count as U+FFFD.

        Returns
        -------
        list of int
            With the token that begins texts, if the model has one.

        Raises
        ------
        TypeError
            Not a string.

        Examples
        --------
        >>> generator.tokenize("The capital of France is")  # doctest: +SKIP
        [504, 3575, 282, 4649, 314]
        """
        return self._tokens.ids(_check_models.text("tokenize", "text", text))

    def detokenize(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens.

        Parameters
        ----------
        ids : sequence of int
        special : bool, default False
            Whether special tokens are shown, by their names, or left out.

        Returns
        -------
        str
            Bytes that are no characters become U+FFFD.

        Raises
        ------
        TypeError, ValueError
            Not integers; outside the vocabulary.

        Examples
        --------
        >>> generator.detokenize([504, 3575, 282, 4649, 314])  # doctest: +SKIP
        'The capital of France is'
        """
        return self._tokens.text(self._ids("detokenize", ids, None).tolist(), special)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits of what follows each token of a text.

        Parameters
        ----------
        ids : sequence of int
            As `tokenize` gives them.

        Returns
        -------
        ndarray of float32, (len(ids), vocab_size)
            Row i is of the token after the first ``i + 1``; its softmax are their probabilities.

        Raises
        ------
        TypeError, ValueError
            Not integers; outside the vocabulary; more than the context.
        MemoryError, KeyboardInterrupt

        Examples
        --------
        >>> ids = generator.tokenize("The capital of France is")  # doctest: +SKIP
        >>> generator.detokenize([generator.logits(ids)[-1].argmax()])  # doctest: +SKIP
        ' Paris'
        """
        checked = self._ids("logits", ids, self.context)
        result = np.empty((len(checked), self.vocab_size), np.float32)
        done = 0
        for block in all_logits(self._decoder, checked, self.cache_dtype):
            result[done : done + len(block)] = block
            done += len(block)
        return result

    def _ids(self, function: str, ids: Any, longest: int | None) -> np.ndarray:
        longest = _check_numbers.LARGEST if longest is None else longest
        checked = _check_models.token_ids(function, "ids", ids, longest)
        _check_generator.within_vocabulary(function, checked, self.vocab_size)
        return checked.astype(np.int64)

    def _requests(
        self,
        function: str,
        name: str,
        prompts: Sequence[str],
        max_tokens: Any,
        temperature: Any,
        top_k: Any,
        top_p: Any,
        seed: Any,
        stop: Any,
    ) -> list[Request]:
        if max_tokens is not None:
            max_tokens = _check_numbers.whole(function, "max_tokens", max_tokens)
        sampler = Sampler(
            self._path,
            _check_generator.temperature(function, temperature),
            _check_generator.top_k(function, top_k),
            _check_generator.top_p(function, top_p),
        )
        stops = _check_generator.stops(function, stop)
        seed = _check_generator.seed(function, seed)
        if seed is None:
            seed = np.random.SeedSequence().entropy
        requests = []
        for n, prompt in enumerate(prompts):
            ids = self._tokens.ids(prompt)
            most = _check_generator.room(
                function, name.format(n), len(ids), max_tokens, self.context
            )
            requests.append(Request(ids, most, sampler, np.random.default_rng((seed, n)), stops))
        return requests
