"""What it costs to have pyattn in a process: memory while it encodes, time to import it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.encoder_inputs import Tokens

ROOT = Path(__file__).parents[1]
STATUS = Path("/proc/self/status")
REPEATS = 7

IMPORT = """
import numpy, time
start = time.perf_counter()
import pyattn
print(time.perf_counter() - start)
"""
BARE = """
import numpy
"""
ENCODE = """
import json, sys
from pyattn.models import TextEncoder
encoder = TextEncoder.from_pretrained(sys.argv[1])
encoder.encode_tokens(json.load(sys.stdin))
"""
PEAK = f"""
status = open("{STATUS}").read()
print(1024 * int(status.split("VmHWM:")[1].split()[0]))
"""


@dataclass(frozen=True)
class Process:
    import_seconds: float  # of pyattn where NumPy has been imported
    model_bytes: int
    # Resident at most; None where /proc cannot tell.
    numpy_bytes: int | None = None  # a Python that has imported NumPy
    encoding_bytes: int | None = None  # one that encodes

    @classmethod
    def measured(cls, directory: Path, tokens: Tokens, model_bytes: int) -> Process:
        seconds = statistics.median(float(output(IMPORT)) for _ in range(REPEATS))
        if not STATUS.exists():
            return cls(seconds, model_bytes)
        encoding = output(ENCODE + PEAK, str(directory), given=json.dumps(tokens))
        return cls(seconds, model_bytes, int(output(BARE + PEAK)), int(encoding))

    def __str__(self) -> str:
        text = f"import pyattn: {1e3 * self.import_seconds:.0f} ms beyond NumPy"
        if self.encoding_bytes is None:
            return text
        parts = self.encoding_bytes, self.numpy_bytes, self.model_bytes
        whole, python, model = (n / 2**20 for n in parts)
        return (
            f"{text}\na process that encodes: at most {whole:.0f} MiB resident = {python:.0f} of "
            f"Python with NumPy + {model:.0f} of the model + {whole - python - model:.0f}"
        )


def output(code: str, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=given,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout
