"""Go on with a text, or answer a question, with the language model in a directory or GGUF file.

The answer is written as it comes. The prompt is an argument, or standard input, of which a line
feed at the end is left out. The same seed gives the same answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from pyattn import set_num_threads
from pyattn._command_line import _check_command_line
from pyattn.models import TextGenerator


def run(options: argparse.Namespace) -> int:
    if options.threads:
        set_num_threads(options.threads)
    _check_command_line.system_needs_chat(options.system, options.chat)
    prompt = options.prompt
    if prompt in (None, "-"):
        raw = sys.stdin.buffer.read()
        prompt = _check_command_line.prompt(raw).removesuffix("\n").removesuffix("\r")
    storage = None if options.storage == "float32" else options.storage
    generator = TextGenerator.from_pretrained(
        options.model, storage=storage, cache_dtype=options.cache
    )

    def begun() -> Iterator[str]:
        messages = [{"role": "user", "content": prompt}]
        if options.system is not None:
            messages.insert(0, {"role": "system", "content": options.system})
        return generator.stream(
            generator.chat_prompt(messages) if options.chat else prompt,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            stop=options.stop,
        )

    # Bytes: the terminal may not have every character.
    out = sys.stdout.buffer
    for piece in _check_command_line.accepted(begun):
        out.write(piece.encode())
        out.flush()
    out.write(b"\n")
    out.flush()
    return 0
