"""No spills in the micro-kernel: compiles the x86-64 kernels as setup.py does and reads the loops.

Every innermost loop of the kernels made of it with at least 8 fused multiply-adds is the
micro-kernel. In it nothing may be stored, and no vector be loaded from the stack.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = {
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma",
               "-mprefer-vector-width=512"],
}  # fmt: skip
COMMON = ["-std=c11", "-O3", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
INSTRUCTION = re.compile(r"^\s+([0-9a-f]+):\s+(\S+)\s*(.*)$")


def loops(assembly: str) -> list[list[tuple[str, str]]]:
    """Innermost loops: from the target of a backward jump to the jump, no other jump between."""
    code = [(int(m[1], 16), m[2], m[3]) for m in map(INSTRUCTION.match, assembly.splitlines()) if m]
    place = {address: i for i, (address, _, _) in enumerate(code)}
    found = []
    for i, (address, name, operands) in enumerate(code):
        target = re.match(r"([0-9a-f]+)\s+<", operands)
        if not name.startswith("j") or not target:
            continue
        to = int(target[1], 16)
        if to < address and to in place:
            body = code[place[to] : i + 1]
            if not any(n.startswith("j") for _, n, _ in body[:-1]):
                found.append([(n, o) for _, n, o in body])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cc", default="cc")
    compiler = parser.parse_args().cc.split()
    passed = failed = 0
    for isa, flags in FLAGS.items():
        for bits in (32, 64):
            with tempfile.TemporaryDirectory() as folder:
                target = str(Path(folder, "kernels.o"))
                source = f"csrc/isa/{isa}_f{bits}.c"
                subprocess.run([*compiler, *COMMON, *flags, "-c", source, "-o", target], check=True)
                assembly = subprocess.run(
                    ["objdump", "-d", "--no-show-raw-insn", target],
                    check=True, capture_output=True, text=True,
                ).stdout  # fmt: skip
            assembly = "\n".join(
                body
                for body in re.split(r"\n\n", assembly)
                if re.search(r"<(row_)?(scores|values|linear)(_\w+)?_kernel>:", body)
            )
            checked = most = 0
            for body in loops(assembly):
                multiplied = sum(name.startswith("vfmadd") for name, _ in body)
                if multiplied < 8:
                    continue
                checked += 1
                most = max(most, multiplied)
                vector = [(n, o) for n, o in body if "mm" in o]
                spills = [(n, o) for n, o in vector if "(%rsp" in o]
                stores = [(n, o) for n, o in vector if n.startswith("vmov") and o.endswith(")")]
                if spills or stores:
                    failed += 1
                    print(f"{isa} f{bits}: {multiplied} FMAs: {(spills + stores)[0]}")
                else:
                    passed += 1
            print(f"{isa} f{bits}: {checked} loops, up to {most} FMAs in one")
            if checked == 0:
                failed += 1
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
