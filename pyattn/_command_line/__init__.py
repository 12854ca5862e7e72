"""The command line, ``python -m pyattn encode`` and ``info``: options and exit statuses.

0 is done, 2 what the user has to mend (options, model, input, files), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyattn import __version__
from pyattn._command_line import _check_command_line, _encode, _info
from pyattn.models import ModelError
from pyattn.models._pooling import MODES
from pyattn.models.text_encoder import BATCH_TOKENS

PROGRAM = "python -m pyattn"
CAUGHT = (_check_command_line.CommandError, ModelError, ImportError, MemoryError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the process; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except CAUGHT as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"{PROGRAM} {options.command}: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM} {options.command}: interrupted{options.after}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Exact attention on CPUs.")
    parser.add_argument("--version", action="version", version=f"pyattn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_encode(commands.add_parser("encode", help="embed texts", description=_encode.__doc__))
    _add_info(commands.add_parser("info", help="what this build and a model are"))
    return parser


def _directory(text: str) -> Path:
    return Path(os.path.expanduser(text))


def _add_encode(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=_encode.run, after="; the same command continues")
    whole = _check_command_line.whole
    add = parser.add_argument
    add("model", type=_directory, metavar="MODEL_DIR", help="as for TextEncoder.from_pretrained")
    add("--input", required=True, metavar="FILE", help="UTF-8, a text a line; - is stdin")
    add("--output", required=True, type=Path, metavar="FILE", help="of NumPy, .npy")
    add("--field", metavar="NAME", help='lines are JSON, texts in this field (*.jsonl: "text")')
    add("--pooling", choices=MODES, help="default: the model's")
    add("--normalize", action=argparse.BooleanOptionalAction, help="default: as the model has it")
    add("--dtype", choices=("float32", "float16"), default="float32", help="of the output")
    add("--batch-tokens", type=whole, default=BATCH_TOKENS, metavar="N", help="changes no result")
    add("--threads", type=whole, metavar="N", help="changes no result")
    add("--restart", action="store_true", help="do not continue a run that was stopped")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_info.run, after="")
    parser.add_argument("model", type=_directory, nargs="?", metavar="MODEL_DIR")
