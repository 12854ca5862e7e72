"""The task of rnn_and_attention.py, and the models that train_rnn_and_attention.py trained on it.

A fact is a name, 24 signs, and one of 4 values. A model is told facts one after the other, and then
asked for the value of one of the names: a row with that name and no value. Names are fresh every
time, so nothing about them can be learned but how to keep them and how to find them again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import pyattn
from pyattn.layers import Linear

SIGNS, VALUES = 24, 4
ROW = SIGNS + VALUES
WEIGHTS = Path(__file__).with_name("recall.npz")


def draw(
    rng: np.random.Generator, sequences: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Facts and a question about each of them, both (sequences, count, ROW), and what is right."""
    facts = np.zeros((sequences, count, ROW), np.float32)
    facts[..., :SIGNS] = rng.integers(0, 2, (sequences, count, SIGNS), dtype=np.int8) * 2 - 1
    questions = facts.copy()
    values = rng.integers(0, VALUES, (sequences, count))
    np.put_along_axis(facts, SIGNS + values[..., None], 1, axis=-1)
    return facts, questions, values


class Model:
    """Scores of the values, (sequences, questions, VALUES), of facts (sequences, n, ROW) and
    questions (sequences, questions, ROW)."""

    words: str  # what it is
    memory: str  # what it keeps of the facts

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.size = sum(a.size for a in weights.values())

    def __call__(self, facts: np.ndarray, questions: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class GRU(Model):
    """Reads a fact, changes its state, reads the next one.

    Cho et al. 2014, arXiv 1406.1078, with the reset gate where cuDNN and PyTorch have it.
    """

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__(weights)
        self.w = weights
        self.units = weights["hidden"].shape[1]
        self.words, self.memory = f"GRU, {self.units} units", f"{self.units} numbers"

    def states(self, rows: np.ndarray) -> np.ndarray:
        """The state after each row, (sequences, n, units)."""
        inputs = self.inputs(rows.swapaxes(0, 1))  # all of them at once
        states = np.zeros((len(inputs) + 1, len(rows), self.units), np.float32)
        for n, row in enumerate(inputs):  # one after the other: there is no way around it
            states[n + 1] = self.step(row, states[n])
        return states[1:].swapaxes(0, 1)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """What rows give to the gates, which does not depend on the state: one product."""
        flat = rows.reshape(-1, rows.shape[-1]) @ self.w["input"].T
        flat += self.w["input_bias"]
        return flat.reshape(*rows.shape[:-1], -1)

    def step(self, inputs: np.ndarray, state: np.ndarray) -> np.ndarray:
        n = self.units
        hidden = state @ self.w["hidden"].T
        hidden += self.w["hidden_bias"]
        gates = sigmoid(inputs[..., : 2 * n] + hidden[..., : 2 * n])
        reset, keep = gates[..., :n], gates[..., n:]
        new = np.tanh(inputs[..., 2 * n :] + reset * hidden[..., 2 * n :])
        return new + keep * (state - new)

    def __call__(self, facts: np.ndarray, questions: np.ndarray) -> np.ndarray:
        state = self.states(facts)[:, -1:]  # every question is asked of this one
        state = self.step(self.inputs(questions), state)
        return state @ self.w["answer"].T + self.w["answer_bias"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


class Attention(Model):
    """Looks at all facts at once: a single head of `pyattn.MultiHeadAttention`, and a layer that
    answers."""

    words, memory = "attention, 1 head", "all facts"

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__(weights)
        self.layer = pyattn.MultiHeadAttention.from_weights(layer_weights(weights), 1)
        self.answer = Linear(weights["answer"], weights["answer_bias"], dtype=np.float32)

    def __call__(self, facts: np.ndarray, questions: np.ndarray) -> np.ndarray:
        return self.answer(self.layer(questions, facts))


class LinearAttention(Model):
    """The same layer without the softmax: the facts become one matrix, as large for a thousand as
    for one."""

    words = "linear attention, 1 head"

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__(weights)
        named = layer_weights(weights)
        self.query, self.key, self.value, self.out = (
            Linear(named[f"{part}_weight"], named[f"{part}_bias"], dtype=np.float32)
            for part in ("q", "k", "v", "out")
        )
        self.answer = Linear(weights["answer"], weights["answer_bias"], dtype=np.float32)
        self.memory = f"{self.key.outputs * (self.value.outputs + 1):,} numbers"  # and their sums

    def __call__(self, facts: np.ndarray, questions: np.ndarray) -> np.ndarray:
        q, k, v = self.query(questions), self.key(facts), self.value(facts)
        heads = (a[:, None] for a in (q, k, v))
        return self.answer(self.out(pyattn.linear_attention(*heads)[:, 0]))


def layer_weights(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a for name, a in weights.items() if not name.startswith("answer")}


KINDS = {"gru": GRU, "attention": Attention, "linear": LinearAttention}


def load(path: Path = WEIGHTS) -> dict[str, Model]:
    """The trained models: weights are kept as float16, and named "model/weight"."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            model, _, weight = name.partition("/")
            found.setdefault(model, {})[weight] = arrays[name].astype(np.float32)
    return {name: KINDS[name.split("-")[0]](weights) for name, weights in found.items()}
