"""The command line, ``python -m pyattn encode``, ``generate``, ``info``: options, exit statuses.

0 is done, 2 what the user has to mend (options, model, input, files), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyattn import __version__
from pyattn._command_line import _check_command_line, _encode, _generate, _info
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
    doc = _generate.__doc__
    _add_generate(commands.add_parser("generate", help="go on with a text", description=doc))
    _add_info(commands.add_parser("info", help="what this build and a model are"))
    return parser


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))


def _add_encode(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=_encode.run, after="; the same command continues")
    whole = _check_command_line.whole
    add = parser.add_argument
    add("model", type=_path, metavar="MODEL_DIR", help="as for TextEncoder.from_pretrained")
    add("--input", required=True, metavar="FILE", help="UTF-8, a text a line; - is stdin")
    add("--output", required=True, type=Path, metavar="FILE", help="of NumPy, .npy")
    add("--field", metavar="NAME", help='lines are JSON, texts in this field (*.jsonl: "text")')
    add("--pooling", choices=MODES, help="default: the model's")
    add("--normalize", action=argparse.BooleanOptionalAction, help="default: as the model has it")
    add("--dtype", choices=("float32", "float16"), default="float32", help="of the output")
    add("--batch-tokens", type=whole, default=BATCH_TOKENS, metavar="N", help="changes no result")
    add("--threads", type=whole, metavar="N", help="changes no result")
    add("--restart", action="store_true", help="do not continue a run that was stopped")


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=_generate.run, after="")
    whole, number = _check_command_line.whole, _check_command_line.number
    add = parser.add_argument
    add("model", type=_path, metavar="MODEL", help="a directory, or a file *.gguf")
    add("prompt", nargs="?", metavar="PROMPT", help="default: standard input, which - means too")
    add("--chat", action="store_true", help="the prompt is a question to the model's assistant")
    add("--system", metavar="TEXT", help="what the assistant is told before; with --chat")
    add("--max-tokens", type=whole, metavar="N", help="default: until the context is full")
    add("--temperature", type=number, default=0.0, metavar="T", help="0: the most probable token")
    add("--top-k", type=whole, metavar="K", help="draw from so many tokens only")
    add("--top-p", type=number, metavar="P", help="draw from as few as have this probability")
    add("--seed", type=_check_command_line.seed, metavar="N", help="of the random numbers")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before it, or another")
    kept = ("float32", "float16", "bfloat16")
    add("--storage", choices=("auto", *kept), default="auto", help="of weights; auto: the file's")
    add("--cache", choices=(*kept, "int8"), default="float32", help="of keys and values")
    add("--threads", type=whole, metavar="N", help="changes no result")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_info.run, after="")
    parser.add_argument("model", type=_path, nargs="?", metavar="MODEL")
