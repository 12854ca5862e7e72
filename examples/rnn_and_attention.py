"""An RNN carries everything through its state; attention reaches any position at once.

    pip install -e . && pip install matplotlib
    python examples/rnn_and_attention.py --out rnn-pictures

The models are told facts one after the other and then asked for one of them (examples/recall.py).
They were trained on up to 64 facts; train_rnn_and_attention.py says how. A table and three
pictures: how often they are right, what an answer hangs on, and what a longer sequence costs. Takes
about half a minute.

- A GRU keeps as many numbers as it has units, and every fact writes over them: it forgets.
- Linear attention adds facts up in a matrix of fixed size: they blur into each other.
- Attention keeps all facts and compares the question with each. It pays with time, which grows with
  their number, but is spent in parallel; steps of a GRU wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
from recall import VALUES, Model, draw, load
from style import BLUE, DIAGRAMS, GREEN, ORANGE

try:
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: needs no screen
    from matplotlib.lines import Line2D
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install matplotlib")

TRAINED = 64  # facts
DISTANCES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 2048, 4096]
SHOWN = [1, 4, 16, 64, 256, 1024, 4096]  # in the table
FACTS = 32  # in the picture of what an answer hangs on
SHORTEST = 32  # of the sequences that are timed one at a time
CLOCK = Path(__file__).with_name("sequence_clock.py")
LINES = {1: "--", 2: "-"}  # threads -> how they are drawn
# What NumPy's BLAS, whichever it is, and pyattn look at.
LIMITS = [f"{name}_NUM_THREADS" for name in ("PYATTN", "OPENBLAS", "MKL", "OMP", "BLIS")]
LIMITS.append("VECLIB_MAXIMUM_THREADS")
COLOURS = {
    "gru-16": "#f0b48c",
    "gru-32": "#e08040",
    "gru-64": ORANGE,
    "linear": GREEN,
    "attention": BLUE,
}
OF_LAYERS = {"GRU": ORANGE, "linear attention": GREEN, "attention": BLUE}


def accuracy(model: Model, distance: int) -> float:
    """Of questions about the oldest of `distance` facts; of many facts, the oldest sixteenth."""
    rng = np.random.default_rng(distance)
    sequences = int(np.clip(2**15 // distance, 32, 2048))
    oldest = max(1, distance // 16)
    facts, questions, values = draw(rng, sequences, distance)
    scores = model(facts, questions[:, :oldest])
    return float((scores.argmax(axis=-1) == values[:, :oldest]).mean())


def influence(model: Model) -> np.ndarray:
    """(questions, facts), by how many facts ago: how much an answer changes with the value of a
    fact. 1 if it was certain and is now certainly another, in the mean over some sequences."""
    facts, questions, _ = draw(np.random.default_rng(0), 16, FACTS)
    others = facts.copy()
    others[..., -VALUES:] = np.roll(facts[..., -VALUES:], 1, axis=-1)
    usual = softmax(model(facts, questions))
    found = np.zeros((FACTS, FACTS))
    for changed in range(FACTS):
        told = facts.copy()
        told[:, changed] = others[:, changed]
        change = np.abs(softmax(model(told, questions)) - usual)
        found[:, changed] = 0.5 * change.sum(axis=-1).mean(axis=0)
    return found[::-1, ::-1]


def softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def times(most: int) -> list[dict]:
    """Of processes that have so many threads, NumPy's BLAS too."""
    records = []
    for threads in LINES:
        variables = dict.fromkeys(LIMITS, str(threads))
        command = [sys.executable, str(CLOCK), "--most", str(most)]
        run = subprocess.run(command, env=os.environ | variables, capture_output=True, check=True)
        records += [{"threads": threads, **record} for record in json.loads(run.stdout)]
    return records


def per_step(records: list[dict], layer: str, batch: int, threads: int) -> dict[int, float]:
    """Length of a sequence -> microseconds per step of each sequence."""
    return {
        r["length"]: 1e6 * r["seconds"] / (r["length"] * batch)
        for r in records
        if (r["layer"], r["batch"], r["threads"]) == (layer, batch, threads)
    }


def recall_figure(models: dict[str, Model], found: dict[str, list[float]]) -> Figure:
    figure = Figure((10, 5.6), layout="constrained")
    figure.suptitle("Recall: what was the value of this name, told d facts ago?")
    axes = figure.subplots()
    axes.axvspan(1, TRAINED, color="#f2f2f2", linewidth=0)
    axes.text(1.06, 1.045, f"trained on up to {TRAINED} facts", color="#555555")
    axes.axhline(1 / VALUES, color="#999999", linestyle=":")
    axes.text(1.06, 1 / VALUES - 0.045, "guessing", color="#555555")
    for name, model in models.items():
        label = f"{model.words}: {model.memory}"
        axes.plot(DISTANCES, found[name], "o-", color=COLOURS[name], markersize=4, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SHOWN, [f"{n:,}" for n in SHOWN])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set(xlim=(1, max(DISTANCES)), ylim=(0, 1.1))
    axes.set_xlabel("d: facts told since, this one included")
    axes.set_ylabel("right answers")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], title="what it keeps", loc="center left", alignment="left",
        bbox_to_anchor=(1, 0.5),
    )  # fmt: skip
    return figure


def influence_figure(models: dict[str, Model]) -> Figure:
    shown = [model for name, model in models.items() if name not in ("gru-16", "gru-32")]
    figure = Figure((4.2 * len(shown) + 1, 4.9), layout="constrained")
    figure.suptitle(f"What an answer hangs on, after {FACTS} facts: which one changes it?")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    edges = (0.5, FACTS + 0.5, FACTS + 0.5, 0.5)
    for axes, model in zip(panels, shown, strict=True):
        image = axes.imshow(influence(model), cmap="Blues", vmin=0, vmax=1, extent=edges)
        axes.set_title(model.words)
        axes.set_xlabel("fact that gets another value: n facts ago")
        axes.set_xticks([1, *range(8, FACTS + 1, 8)])
        axes.set_yticks([1, *range(8, FACTS + 1, 8)])
    panels[0].set_ylabel("question about the fact told n facts ago")
    figure.colorbar(image, ax=panels, shrink=0.8, label="change of the answer")
    return figure


def time_figure(records: list[dict]) -> Figure:
    batches = sorted({record["batch"] for record in records})
    layers = list(dict.fromkeys(record["layer"] for record in records))
    figure = Figure((11, 5.2), layout="constrained")
    figure.suptitle("Time: a layer of 256 numbers, over longer and longer sequences")
    panels = figure.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        for layer, (threads, line) in product(layers, LINES.items()):
            found = per_step(records, layer, batch, threads)
            axes.plot(*zip(*found.items(), strict=True), line, color=OF_LAYERS[layer])
        axes.set_title("one sequence" if batch == 1 else f"{batch} sequences at a time")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(list(found), [f"{n:,}" for n in found], rotation=40)
        axes.set_yticks([2, 5, 10, 20, 50, 100, 200])
        axes.minorticks_off()
        axes.set_xlabel("steps of a sequence")
        axes.grid(color="#eeeeee")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("microseconds per step of a sequence")
    handles = [Line2D([], [], color=OF_LAYERS[layer], label=layer) for layer in layers]
    for threads, line in LINES.items():
        label = f"{threads} thread" + "s" * (threads > 1)
        handles.append(Line2D([], [], color="#555555", linestyle=line, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def reach(accuracies: list[float]) -> int:
    """How many facts ago the answers are still right nine times of ten."""
    worse = next((n for n, right in enumerate(accuracies) if right < 0.9), len(DISTANCES))
    return DISTANCES[worse - 1] if worse else 0


def print_recall(models: dict[str, Model], found: dict[str, list[float]]) -> None:
    title = "right answers, facts ago"
    print(f"{title:28}" + "".join(f"{d:>8,}" for d in SHOWN) + f"{'90 % up to':>12}{'weights':>9}")
    for name, model in models.items():
        of = dict(zip(DISTANCES, found[name], strict=True))
        line = f"{model.words:28}" + "".join(f"{of[d]:8.1%}" for d in SHOWN)
        print(f"{line}{reach(found[name]):12,}{model.size:9,}")


def print_times(records: list[dict]) -> None:
    for batch in sorted({record["batch"] for record in records}):
        lengths = sorted({r["length"] for r in records if r["batch"] == batch})
        title = f"us per step, {batch} at a time, of"
        print(f"\n{title:30}" + "".join(f"{n:>8,}" for n in lengths))
        for layer, threads in product(OF_LAYERS, LINES):
            found = per_step(records, layer, batch, threads)
            if found:
                name = f"{layer}, {threads} thread" + "s" * (threads > 1)
                print(f"{name:30}" + "".join(f"{us:8.2f}" for us in found.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rnn-pictures"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=8192,
        metavar="N",
        help="longest sequence that is timed; default: %(default)s",
    )
    options = parser.parse_args()
    if options.most < SHORTEST:
        parser.error(f"--most must be at least {SHORTEST}")
    options.out.mkdir(parents=True, exist_ok=True)
    models = load()
    found = {name: [accuracy(model, d) for d in DISTANCES] for name, model in models.items()}
    print_recall(models, found)
    records = times(options.most)
    print_times(records)
    print()
    with matplotlib.rc_context(DIAGRAMS):
        figures = {
            "1-recall": recall_figure(models, found),
            "2-influence": influence_figure(models),
            "3-time": time_figure(records),
        }
        for name, figure in figures.items():
            path = options.out / f"{name}.png"
            figure.savefig(path)
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
