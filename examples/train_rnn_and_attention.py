"""Trains the models of recall.py and writes their weights, recall.npz. Needs PyTorch.

    pip install -e . torch
    python examples/train_rnn_and_attention.py

About 10 minutes on one core. The seed decides everything, up to the rounding of another PyTorch.

All models get the same lessons: sequences of 1 to n facts, where n grows from 2 to 64, and
questions about all of them. The GRUs get six times as many, for they learn slowest; four times as
many would bring linear attention some 3 % more answers. A question about the fact told d facts ago
counts 1 / d. That is for the GRUs' sake too: if all questions count the same, they learn to be
equally poor at all of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from recall import ROW, VALUES, WEIGHTS, draw

try:
    import torch
    from torch import nn
except ImportError as error:
    sys.exit(f"{error.name} is missing: see the top of {__file__}")

SEED = 0
LONGEST = 64  # facts
SEQUENCES = 64  # per step


class GRU(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(ROW, units)
        self.answer = nn.Linear(units, VALUES)

    def forward(self, facts: torch.Tensor, questions: torch.Tensor) -> torch.Tensor:
        _, state = self.rnn(facts.transpose(0, 1))
        count = questions.shape[1]
        asked = questions.reshape(1, -1, ROW)  # each is one more step from the same state
        answered, _ = self.rnn(asked, state.repeat_interleave(count, dim=1))
        return self.answer(answered[0]).unflatten(0, (-1, count))

    def named(self) -> dict[str, torch.Tensor]:
        return {
            "input": self.rnn.weight_ih_l0,
            "input_bias": self.rnn.bias_ih_l0,
            "hidden": self.rnn.weight_hh_l0,
            "hidden_bias": self.rnn.bias_hh_l0,
            "answer": self.answer.weight,
            "answer_bias": self.answer.bias,
        }


class Attention(nn.Module):
    def __init__(self, size: int, linear: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(ROW, size) for _ in range(3))
        self.out = nn.Linear(size, ROW)
        self.answer = nn.Linear(ROW, VALUES)
        self.linear = linear

    def forward(self, facts: torch.Tensor, questions: torch.Tensor) -> torch.Tensor:
        q, k, v = self.q(questions), self.k(facts), self.v(facts)
        if self.linear:
            q, k = (nn.functional.elu(x) + 1 for x in (q, k))
            sums = k.sum(dim=1)[..., None]
            attended = q @ (k.transpose(1, 2) @ v) / (q @ sums)
        else:
            attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.answer(self.out(attended))

    def named(self) -> dict[str, torch.Tensor]:
        parts = {part: getattr(self, part) for part in ("q", "k", "v", "out")}
        weights = {f"{part}_weight": layer.weight for part, layer in parts.items()}
        biases = {f"{part}_bias": layer.bias for part, layer in parts.items()}
        answer = {"answer": self.answer.weight, "answer_bias": self.answer.bias}
        return weights | biases | answer


# name in recall.npz -> model, steps, learning rate
PLAN = {
    "gru-16": (lambda: GRU(16), 24_000, 3e-3),
    "gru-32": (lambda: GRU(32), 24_000, 3e-3),
    "gru-64": (lambda: GRU(64), 24_000, 3e-3),
    "linear": (lambda: Attention(64, linear=True), 4_000, 1e-2),
    "attention": (lambda: Attention(64, linear=False), 4_000, 1e-2),
}


def train(name: str) -> nn.Module:
    make, steps, rate = PLAN[name]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = perf_counter()
    for step in range(1, steps + 1):
        longest = int(2 * (LONGEST / 2) ** min(1, step / (0.6 * steps)))
        count = int(rng.integers(1, longest + 1))
        facts, questions, values = map(torch.from_numpy, draw(rng, SEQUENCES, count))
        counts = 1 / torch.arange(count, 0, -1)
        scores = model(facts, questions).transpose(1, 2)
        losses = nn.functional.cross_entropy(scores, values, reduction="none")
        loss = losses.mean(dim=0) @ (counts / counts.sum())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % (steps // 8) == 0:
            seconds = perf_counter() - start
            print(f"{name:10} {step:6} steps {seconds:5.0f} s   {report(model)}", flush=True)
    return model


def report(model: nn.Module) -> str:
    """Of 64 facts, by how many facts ago they were told."""
    with torch.inference_mode():
        facts, questions, values = map(
            torch.from_numpy, draw(np.random.default_rng(1), 256, LONGEST)
        )
        right = (model(facts, questions).argmax(dim=-1) == values).float().mean(dim=0)
    return ", ".join(f"{ago} ago {right[-ago]:.0%}" for ago in (1, 4, 16, 64))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="default: %(default)s")
    out = parser.parse_args().out
    torch.set_num_threads(1)  # the matrices are small, and sums keep their order
    arrays = {
        f"{name}/{weight}": tensor.detach().numpy().astype(np.float16)
        for name in PLAN
        for weight, tensor in train(name).named().items()
    }
    np.savez_compressed(out, **arrays)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
