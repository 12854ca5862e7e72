"""The suite `encoder`: a text encoder over real texts of unequal length, against models that pad.

We take the texts as they come. Peers take batches of 32, padded to the longest of the batch: once
after sorting all texts by length, once as they come.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import encoder_graph
from benchmarks.encoder_check import Entrant, enter
from benchmarks.encoder_contestants import CONTESTANTS
from benchmarks.encoder_inputs import Model, Source, Tokens, padded, random_tokens, real_tokens
from benchmarks.encoder_process import Process
from benchmarks.encoder_rounds import (
    AS_THEY_COME,
    BATCH,
    PACKED,
    SORTED,
    Part,
    Runner,
    fastest,
    in_batches,
    parts,
    take_turns,
)
from benchmarks.measuring import say
from pyattn.models import ModelError, TextEncoder

TRIAL = 8  # texts that decide which of a contestant's ways runs


@dataclass(frozen=True)
class Case:
    contestant: str
    order: str
    model: Path | None
    texts: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.contestant}, {self.order}"


@dataclass
class Row:
    contestant: str
    order: str
    error: float
    note: str = ""  # why there is no figure
    way: str = ""
    texts: int = 0
    texts_per_second: float = 0.0
    tokens_per_second: float = 0.0
    of_peak: float = 0.0  # median of ratios
    speedup: float = 0.0  # of pyattn; median of ratios

    def __str__(self) -> str:
        name = f"{f'{self.contestant}, {self.order}':26}"
        if self.note:
            return f"{name}{self.note:>10}"
        ratio = "" if self.order == PACKED else f"{self.speedup:.2f}x"
        rates = f"{self.texts_per_second:10.0f}{self.tokens_per_second:10,.0f}"
        return f"{name}{rates}{100 * self.of_peak:8.1f}{ratio:>13}   {self.way}"


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    return ["pyattn"], list(CONTESTANTS)


def cases(suite: str, quick: bool, model: Path | None) -> list[Case]:
    size = (192, 3) if quick else (2048, 8)
    rows = [(n, order) for order in (SORTED, AS_THEY_COME) for n in CONTESTANTS if n != "pyattn"]
    return [Case(name, order, model, *size) for name, order in [("pyattn", PACKED), *rows]]


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    """`seconds` and `rounds` are those of short cases: here the texts decide."""
    plan = cases[0]
    with Source.found(plan.model) as source:
        try:
            encoder = TextEncoder.from_pretrained(source.directory)
        except ModelError as error:
            raise SystemExit(str(error)) from None
        model = Model.read(source.directory)
        say(f"model: {source.words}\n{encoder!r}")
        if source.is_random:
            tokens, words = random_tokens(plan.texts)
        else:
            tokens, words = real_tokens(encoder, plan.texts)
        describe_texts(tokens, words)
        entrants = enter(names, model, tokens, threads)
        if "onnxruntime" in entrants and entrants["onnxruntime"].ways:
            describe_graph(model)
        peers = [(c.contestant, c.order) for c in cases if c.contestant in entrants]
        wanted = dict.fromkeys([("pyattn", PACKED), *peers])  # ours first, and once
        rows = measure(list(wanted), entrants, model, parts(tokens, plan.rounds))
        say(f"\n{'':26}{'texts/s':>10}{'tokens/s':>10}{'% peak':>8}   speed-up of pyattn")
        say("\n".join(map(str, rows)))
        some = min(row.texts for row in rows if row.texts)
        if some < plan.texts:
            say(f"({AS_THEY_COME}: {some} of these texts)")
        process = Process.measured(source.directory, tokens[:256], encoder.nbytes)
        say(f"\n{process}")
    return [asdict(figures) for figures in (*rows, process)]


def measure(
    wanted: list[tuple[str, str]], entrants: dict[str, Entrant], model: Model, rounds: list[Part]
) -> list[Row]:
    runners = {}
    for name, order in wanted:
        ways = entrants[name].ways
        if ways:
            batches = rounds[0].batches(order)
            way = fastest(ways, batches[len(batches) // 2][:TRIAL])
            runners[name, order] = Runner(way, ways[way], order)
    take_turns(list(runners.values()), rounds)
    rows = []
    for name, order in wanted:
        row = Row(name, order, entrants[name].error, entrants[name].note)
        runner = runners.get((name, order))
        if runner is not None:
            row.way, row.texts, row.speedup = runner.way, runner.texts(), runner.ratio()
            row.texts_per_second = runner.texts_per_second()
            row.tokens_per_second = runner.tokens_per_second()
            row.of_peak = runner.of_peak(model)
        rows.append(row)
    return rows


def describe_texts(tokens: Tokens, words: str) -> None:
    lengths = [len(ids) for ids in tokens]
    say(
        f"{len(tokens)} texts, {sum(lengths):,} tokens (mean {statistics.mean(lengths):.1f}, "
        f"median {statistics.median(lengths):.0f}, longest {max(lengths)}): {words}"
    )
    shares = []
    for name, order in ((SORTED, sorted(tokens, key=len)), (AS_THEY_COME, tokens)):
        size = sum(padded(batch)[0].size for batch in in_batches(order))
        shares.append(f"{name} {size / sum(lengths):.2f} times as many")
    say(f"padded in batches of {BATCH}: {', '.join(shares)}")


def describe_graph(model: Model) -> None:
    """What shows that onnxruntime's graph is fused."""
    counts = encoder_graph.operators(model, encoder_graph.ATTENTIONS[0])
    say("onnxruntime runs " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
