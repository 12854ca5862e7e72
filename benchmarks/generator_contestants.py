"""Who reads tokens in the suite `decode`. A call reads a prompt, or one token more of each of
several sequences, which are forgotten again, and returns the logits of what follows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.generator_model import WORDS, Model
from benchmarks.measuring import Call
from examples.packaged_generator import packaged_generator
from pyattn.models import TextGenerator

if TYPE_CHECKING:
    import torch
    from transformers import Cache, LlamaForCausalLM

    from pyattn.models._decoder import Decoder


@functools.cache
def own(dtype: str) -> Decoder:
    """What generates, without tokenizer and sampling."""
    storage = None if dtype == "float32" else dtype
    return TextGenerator.from_pretrained(packaged_generator(), storage=storage)._decoder


def run_pyattn(
    model: Model, ids: np.ndarray, sequences: int, dtype: str, threads: int
) -> list[Call]:
    decoder = own(dtype)
    if not sequences:

        def prefill() -> np.ndarray:
            caches = decoder.caches(1, dtype)
            return decoder.logits(decoder.read(ids, np.arange(1), [len(ids)], caches)[-1:])

        return [prefill]
    caches, rows = decoder.caches(sequences, dtype), np.arange(sequences)
    for row in rows:
        decoder.read(ids[:-1], rows[row : row + 1], [len(ids) - 1], caches)
    newest = np.repeat(ids[-1:], sequences)

    def step() -> np.ndarray:
        states = decoder.read(newest, rows, [1] * sequences, caches)
        for cache in caches:
            cache.rollback(1)
        return decoder.logits(states)

    return [step]


@functools.cache
def llama(model: Model, dtype: str) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, logging

    logging.set_verbosity_error()
    config = LlamaConfig(
        vocab_size=model.vocabulary,
        hidden_size=model.hidden,
        intermediate_size=model.inner,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        rms_norm_eps=model.eps,
        rope_theta=model.theta,
        max_position_embeddings=model.context,
        tie_word_embeddings=True,
    )
    made = LlamaForCausalLM(config)
    state = {name: torch.from_numpy(a) for name, a in model.weights.items()}
    made.load_state_dict(state | {"lm_head.weight": state[WORDS]})
    return made.eval().to(getattr(torch, dtype))


def run_torch(
    model: Model, ids: np.ndarray, sequences: int, dtype: str, threads: int
) -> list[Call]:
    """The Llama of transformers; for steps with both of its caches: one that grows, one of full
    length."""
    import torch
    from transformers import DynamicCache, StaticCache

    torch.set_num_threads(threads)
    made = llama(model, dtype)
    tokens = torch.from_numpy(ids).expand(sequences or 1, -1)
    names = inspect.signature(made.forward).parameters
    name = "cache" if "cache" in names else "past_key_values"  # newer, older versions

    def read(part: torch.Tensor, cache: Cache) -> np.ndarray:
        with torch.inference_mode():
            out = made(part, use_cache=True, logits_to_keep=1, **{name: cache})
            return out.logits[:, -1].float().numpy()

    if not sequences:
        return [lambda: read(tokens, DynamicCache())]

    def steps(cache: Cache) -> Call:
        read(tokens[:, :-1], cache)

        def step() -> np.ndarray:
            logits = read(tokens[:, -1:], cache)
            cache.crop(-1)
            return logits

        return step

    return [steps(DynamicCache()), steps(StaticCache(made.config, len(ids)))]


CONTESTANTS: dict[str, Callable[[Model, np.ndarray, int, str, int], list[Call]]] = {
    "pyattn": run_pyattn,
    "torch": run_torch,
}
