"""Embed a text a line and write the embeddings as a .npy file of as many rows.

A run that was stopped, by Ctrl-C, a kill or a crash, is continued by the same command: meanwhile
the rows are in OUTPUT.partial. The result is the same, bit by bit, as without a stop.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pyattn import __version__, get_isa, set_num_threads
from pyattn._command_line import _check_command_line, _records
from pyattn._command_line._partial import Partial, Position, written
from pyattn._command_line._records import PIECE, Prefix
from pyattn.models import TextEncoder, _check_models
from pyattn.models._batches import batches
from pyattn.models._directory import model_files

JSON_LINES = (".jsonl", ".ndjson")
SAVE_SECONDS = 1.0  # work that a kill may cost


class Text(NamedTuple):
    """A text of the input as its tokens."""

    raw: bytes
    ids: list[int]


def run(options: argparse.Namespace) -> int:
    if options.threads:
        set_num_threads(options.threads)
    field = options.field
    if field is None and options.input.endswith(JSON_LINES):
        field = "text"
    # A link stays one: the file that it leads to is written.
    output = Path(os.path.realpath(options.output))
    with _records.opened(options.input) as file:
        sources = _sources(file, options)
        _check_command_line.output(options.output, written(output), sources)
        encoder = TextEncoder.from_pretrained(options.model)
        pooling = encoder.pooling if options.pooling is None else (options.pooling,)
        normalize = encoder.normalize if options.normalize is None else options.normalize
        dim = encoder.encode([], pooling=pooling).shape[1]
        dtype = np.dtype(options.dtype).newbyteorder("<")
        job = {
            "model": _fingerprint(options.model),
            "pooling": " + ".join(pooling),
            "normalize": normalize,
            "dtype": options.dtype,
            "field": field,
            "version of pyattn": __version__,  # these two: bits may differ
            "instruction set": get_isa(),
        }
        with Partial(output, dim, dtype, job) as partial:
            lines = _go_on(partial, file, options)
            records = _records.records(file, options.input, field, lines)
            texts = (Text(raw, *encoder.tokenize([text])) for raw, text in records)
            groups = batches(texts, options.batch_tokens, tokens=lambda text: len(text.ids))
            try:
                with _progress(file, partial.position) as bar:
                    _write(groups, encoder, pooling, normalize, partial, bar)
            finally:  # after Ctrl-C and errors of the input, too
                partial.save()
            partial.finish()
            _report(partial, options.output, encoder.max_tokens)
    return 0


def _sources(file: BinaryIO, options: argparse.Namespace) -> dict[str, os.stat_result]:
    """All files that are read, by what they are."""
    model = options.model
    files = {f"the model's {p.relative_to(model)}": p.stat() for p in model_files(model)}
    return files | {"the input": os.fstat(file.fileno())}


def _go_on(partial: Partial, file: BinaryIO, options: argparse.Namespace) -> int:
    """Begin, or continue where the run before stopped; the number of lines that are done."""
    state = None if options.restart else partial.found()
    if state is None:
        partial.begin(Position(0, Prefix(), 0))
        return 0
    read, lines, whole = _records.skipped(file, state["bytes"])
    same = whole and (read.length, read.sha256) == (state["bytes"], state["sha256"])
    _check_command_line.same_input(options.input, partial.path, same)
    partial.begin(Position(state["rows"], read, state["full"]))
    return lines


def _write(
    groups: Iterator[list[Text]],
    encoder: TextEncoder,
    pooling: tuple[str, ...],
    normalize: bool,
    partial: Partial,
    bar: Any,
) -> None:
    due = monotonic() + SAVE_SECONDS
    for texts in groups:
        ids = [text.ids for text in texts]
        tokens = sum(map(len, ids))
        rows = encoder.encode_tokens(
            ids, batch_tokens=max(tokens, 1), pooling=pooling, normalize=normalize
        )
        raw = b"".join(text.raw for text in texts)
        full = sum(len(one) == encoder.max_tokens for one in ids)
        partial.append(rows, partial.position.read.followed_by(raw), full)
        bar.set_postfix_str(f"{partial.position.rows} texts", refresh=False)
        bar.update(len(raw))
        if monotonic() >= due:
            partial.save()
            due = monotonic() + SAVE_SECONDS


def _progress(file: BinaryIO, position: Position) -> Any:
    """A bar on a terminal, of bytes of the input: nobody knows how many texts there are in it."""
    tqdm = _check_models.extra("tqdm").tqdm
    size = os.fstat(file.fileno()).st_size or None  # a pipe has none
    hidden = not sys.stderr.isatty()
    return tqdm(total=size, initial=position.read.length, unit="B", unit_scale=True, disable=hidden)


def _report(partial: Partial, output: Path, longest: int) -> None:
    rows, _, full = partial.position
    print(f"{output}: {rows} x {partial.dim}, {partial.dtype.name}", file=sys.stderr)
    if full:
        print(f"{full} texts have {longest} tokens or more; the rest was cut", file=sys.stderr)


def _fingerprint(directory: Path) -> str:
    """Of the files that the encoder is made of."""
    digest = hashlib.sha256()
    for path in model_files(directory):
        digest.update(os.fsencode(f"{path.relative_to(directory)} {path.stat().st_size}\n"))
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    return digest.hexdigest()[:16]
