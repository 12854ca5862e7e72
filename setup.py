"""Builds csrc/ once per instruction set into static libraries, and the Cython door on top.

Every instruction set has flags of its own (``libraries=[(name, {..., "cflags": ...})]``); only its
kernel files see them, so that no function compiled for a newer processor can be picked by the
linker for everybody. Nothing here is chosen for the machine that builds: a wheel runs anywhere.

Environment: CC and CFLAGS are honoured as usual.
"""

import platform
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

MACHINE = platform.machine().lower()
# -ffp-contract=off: multiply-adds are fused where the source says so and nowhere else.
# Never -ffast-math or a part of it: NaN, infinities and denormals mean something here.
CFLAGS = [
    "-std=c11",
    "-O3",
    "-fPIC",
    "-pthread",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
]
ISA_FLAGS = {
    "x86_64": {
        "generic": [],
        "avx2": ["-mavx2", "-mfma", "-mf16c"],
        "avx512": [
            "-mavx512f",
            "-mavx512vl",
            "-mavx512bw",
            "-mavx512dq",
            "-mfma",
            "-mprefer-vector-width=512",
        ],
    },
    "aarch64": {"generic": [], "neon": []},
}
ISA_FLAGS["amd64"] = ISA_FLAGS["x86_64"]
ISA_FLAGS["arm64"] = ISA_FLAGS["aarch64"]
SOURCES = sorted(str(p) for p in Path("csrc").rglob("*") if p.suffix in {".h", ".inc", ".c"})
HEADERS = [name for name in SOURCES if not name.endswith(".c")]


def library(name: str, sources: list[Path], cflags: list[str]) -> tuple[str, dict]:
    files = [str(p) for p in sorted(sources)]
    return name, {"sources": files, "cflags": CFLAGS + cflags, "obj_deps": {"": HEADERS}}


libraries = [library("pyattn_drivers", list(Path("csrc").glob("*.c")), [])]
libraries += [
    library(f"pyattn_{isa}", list(Path("csrc/isa").glob(f"{isa}_*.c")), flags)
    for isa, flags in ISA_FLAGS.get(MACHINE, {"generic": []}).items()
]

core = Extension(
    "pyattn._core",
    ["pyattn/_core.pyx"],
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    depends=SOURCES,  # of the libraries too, or it would not be linked again
    # The libraries come from build_clib, in this order; drivers first, since they name the tables.
    extra_link_args=["-pthread", "-lm"],
)

setup(libraries=libraries, ext_modules=cythonize([core], build_dir="build"))
