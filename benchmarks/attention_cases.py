"""The cases of the attention and mask suites, and their inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

import pyattn


@dataclass(frozen=True)
class Case:
    name: str
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    size: int
    causal: bool = False
    lengths: tuple[int, ...] = ()
    option: str = ""  # of OPTIONS
    seen: float = 1.0  # the part of the keys that the option shows and pyattn computes

    @property
    def flops(self) -> float:
        """Of the visible part: 4 * size for every query that sees a key."""
        if self.packed:
            return 4.0 * self.heads * self.size * float(np.square(self.lengths, dtype=float).sum())
        lengths = self.lengths or (self.keys,) * self.batch
        seen = 0.0
        for n in lengths:
            if self.causal:
                rows = np.arange(self.queries) + self.keys - self.queries + 1
                seen += float(np.clip(rows, 0, n).sum())
            else:
                seen += float(self.queries) * n
        return 4.0 * self.heads * self.size * seen * self.seen

    @property
    def packed(self) -> bool:
        return self.option == "varlen"

    def __str__(self) -> str:
        heads = f"{self.heads}" if self.heads == self.kv_heads else f"{self.heads}/{self.kv_heads}"
        length = f"{self.queries}" if self.queries == self.keys else f"{self.queries}x{self.keys}"
        notes = " causal" * self.causal + " padded" * bool(self.lengths)
        return f"{self.name} {self.batch},{heads},{length},{self.size}{notes}"


def lengths_of_texts(batch: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(n) for n in np.random.default_rng(0).integers(low, high + 1, batch))


CASES = [
    Case("encoder", 8, 12, 12, 512, 512, 64),
    Case("short", 32, 12, 12, 128, 128, 64),
    Case("MiniLM", 32, 12, 12, 128, 128, 32),
    Case("long", 1, 16, 16, 4096, 4096, 64),
    Case("long D=128", 1, 8, 8, 4096, 4096, 128),
    Case("causal", 1, 16, 16, 2048, 2048, 64, causal=True),
    Case("causal", 1, 16, 16, 2048, 2048, 128, causal=True),
    Case("dense", 1, 16, 16, 2048, 2048, 64),
    Case("GQA prefill", 1, 32, 8, 1024, 1024, 128, causal=True),
    Case("tiny", 1, 12, 12, 32, 32, 64),
    Case("cross", 8, 12, 12, 64, 1024, 64),
    Case("padded", 32, 12, 12, 512, 512, 64, lengths=lengths_of_texts(32, 16, 512)),
    Case("D=80", 4, 16, 16, 1024, 1024, 80),
    Case("D=256", 2, 8, 8, 1024, 1024, 256),
]
QUICK = {"encoder", "MiniLM", "causal", "tiny", "padded"}
WINDOW = 256


def window_part(length: int, left: int, right: int) -> float:
    i = np.arange(length)
    return float((np.minimum(i + right, length - 1) - np.maximum(i - left, 0) + 1).mean() / length)


MASK_CASES = [
    Case("no option", 1, 16, 16, 2048, 2048, 64),
    Case("mask (B,1,1,S)", 8, 12, 12, 512, 512, 64, option="mask S"),
    Case("mask (1,1,L,S)", 1, 16, 16, 2048, 2048, 64, option="mask LS"),
    Case("mask (B,H,L,S)", 2, 8, 8, 1024, 1024, 64, option="mask BHLS"),
    Case("bias (1,H,L,S)", 2, 12, 12, 1024, 1024, 64, option="bias HLS"),
    Case("bias (1,H,L,S)", 8, 12, 12, 256, 256, 64, option="bias HLS"),
    Case("ALiBi", 1, 16, 16, 2048, 2048, 64, option="alibi"),
    Case("relative table", 1, 16, 16, 2048, 2048, 64, option="relative"),
    Case("relative grid", 1, 16, 16, 2048, 2048, 64, option="relative grid"),
    Case("softcap", 1, 16, 16, 2048, 2048, 64, option="softcap"),
    Case("sinks", 1, 16, 16, 2048, 2048, 64, option="sinks"),
    Case(
        "window (256,256)", 1, 2, 2, 16384, 16384, 64, option="window",
        seen=window_part(16384, WINDOW, WINDOW),
    ),
    Case(
        "window (256,0)", 1, 2, 2, 16384, 16384, 64, option="causal window",
        seen=window_part(16384, WINDOW, 0),
    ),
    Case("2 documents", 1, 4, 4, 8192, 8192, 64, option="documents", seen=0.5),
    Case(
        "varlen", 32, 12, 12, 512, 512, 64, lengths=lengths_of_texts(32, 16, 512), option="varlen"
    ),
]  # fmt: skip


@dataclass
class Inputs:
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    lengths: np.ndarray | None
    options: dict = field(default_factory=dict)  # as pyattn takes them
    mask: np.ndarray | None = None  # dense, 4 axes, as others take it; where it is small
    bias: np.ndarray | None = None
    softcap: float | None = None

    def offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def packed(self) -> list[np.ndarray]:
        """Query, key and value of packed sequences, (T, H, D)."""
        return [
            np.concatenate([a[b, :, :n].swapaxes(0, 1) for b, n in enumerate(self.lengths)])
            for a in (self.q, self.k, self.v)
        ]


def add_option(case: Case, x: Inputs) -> None:
    """Fills in what the case's option means for pyattn and for the others."""
    rng = np.random.default_rng(1)
    batch, heads, length = case.batch, case.heads, case.queries
    causal_window = np.tri(length, dtype=bool) if case.option == "causal window" else None
    if case.option.startswith("mask"):
        axes = case.option.split()[1]
        shape = tuple(
            n if name in axes else 1
            for name, n in zip("BHLS", (batch, heads, length, length), strict=True)
        )
        shape = (batch, *shape[1:]) if axes == "S" else shape
        x.mask = rng.random(shape) < 0.8
        x.options["mask"] = x.mask
    elif case.option == "bias HLS":
        x.bias = rng.standard_normal((1, heads, length, length), dtype=np.float32)
        x.options["bias"] = x.bias
    elif case.option in ("alibi", "relative", "relative grid"):
        if case.option == "alibi":
            bias = pyattn.biases.alibi(pyattn.biases.alibi_slopes(heads), length, length)
        elif case.option == "relative":
            table = rng.standard_normal((heads, 2 * length - 1), dtype=np.float32)
            bias = pyattn.biases.relative(table, length)
        else:
            table = rng.standard_normal((heads, 63, 2 * length // 32 - 1), dtype=np.float32)
            bias = pyattn.biases.relative_grid(table, (32, length // 32))
        x.options["bias"] = bias
        x.bias = np.asarray(bias)[None].astype(np.float32)
    elif case.option == "softcap":
        x.softcap = x.options["softcap"] = 20.0
    elif case.option == "sinks":
        x.options["sinks"] = np.linspace(-2, 2, heads)
    elif case.option in ("window", "causal window"):
        x.options["window"] = (WINDOW, WINDOW if causal_window is None else 0)
        band = np.tri(length, k=WINDOW, dtype=bool) & np.tri(length, k=WINDOW, dtype=bool).T
        x.mask = (band if causal_window is None else band & causal_window)[None, None]
    elif case.option == "documents":
        x.options["mask"] = pyattn.masks.documents([0, length // 2, length])
        x.mask = np.asarray(x.options["mask"])[None, None]


def make_inputs(case: Case) -> Inputs:
    rng = np.random.default_rng(0)

    def draw(heads: int, length: int) -> np.ndarray:
        return rng.standard_normal((case.batch, heads, length, case.size), dtype=np.float32)

    lengths = np.array(case.lengths) if case.lengths else None
    x = Inputs(
        draw(case.heads, case.queries),
        draw(case.kv_heads, case.keys),
        draw(case.kv_heads, case.keys),
        lengths,
    )
    add_option(case, x)
    return x


def mask_of(case: Case, x: Inputs) -> np.ndarray | None:
    """True = may attend, as the peers want it: four axes."""
    if x.lengths is None:
        return x.mask
    return (np.arange(case.keys) < x.lengths[:, None])[:, None, None, :]
