"""What must never be: who may include, import and use what. Reads the sources and says so.

Every rule is also shown to find the thing where it is allowed, so that none passes for being blind.
"""

import ast
import functools
import inspect
import re
from pathlib import Path

import pytest
from support import python

import pyattn
from pyattn import reference

ROOT = Path(__file__).parent.parent
if not (ROOT / "csrc").is_dir():
    pytest.skip("needs the source tree", allow_module_level=True)


def without_comments(text):
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    return re.sub(r"//[^\n]*", " ", text)


C_FILES = {
    str(p.relative_to(ROOT / "csrc")): without_comments(p.read_text())
    for p in sorted((ROOT / "csrc").rglob("*"))
    if p.suffix in {".c", ".h", ".inc"}
}
KERNELS = {n: t for n, t in C_FILES.items() if n.startswith("kernels/")}
PYTHON_FILES = {
    str(p.relative_to(ROOT / "pyattn")): p.read_text()
    for p in sorted((ROOT / "pyattn").rglob("*.py"))
}
DOOR = (ROOT / "pyattn" / "_core.pyx").read_text()

INTRINSICS = r"\b_mm\d*_\w+|\bv\w+q?_[fsu](?:32|64)\b|\bfloat(?:32x4|64x2)_t|\b(?:imm|x86)intrin\.h"
INTRINSICS += (
    r"|\barm_\w+\.h|\bsimde\b|\bSIMDE|\b__builtin_ia32_(?!pause)\w+|\b__cpuid|\b__builtin_cpu"
)

# pattern -> files of csrc/ in which it may stand, and where it is found today
RULES = {
    r"\bPython\.h\b|\bPy[A-Z_]\w*|\bnumpy\b": [],
    r"#\s*pragma\s+omp\b|\bomp_\w+|\bomp\.h\b": [],
    r"\bpthread_\w+|\bpthread\.h\b|\bthrd_\w+": ["parallel.c"],
    r"\b(?:malloc|calloc|realloc|aligned_alloc|posix_memalign|free|alloca)\s*\(|\bmmap\b": [
        "scratch.c"
    ],
    r"\bgetenv\b|\bsetenv\b|\bputenv\b|\benviron\b": [],
    INTRINSICS: ["kernels/vec.h", "cpu.c"],
    r"\bprintf\b|\bputs\b|\bstdio\.h\b|\babort\b|\bexit\s*\(|\bassert\s*\(": [],
    r"\b(?:goto|setjmp|longjmp)\b": [],
    r"\b_mm_setcsr|\b_MM_SET\w+|\bfesetround|\bldmxcsr": [],
    r"\bfesetenv|\bfenv\.h": ["parallel.c"],  # threads take over the caller's
}


def offenders(pattern, files):
    return {
        name: re.findall(pattern, text) for name, text in files.items() if re.search(pattern, text)
    }


@pytest.mark.parametrize("pattern", RULES)
def test_only_where_it_belongs(pattern):
    found = offenders(pattern, C_FILES)
    assert sorted(found) == sorted(RULES[pattern])


@pytest.mark.parametrize(
    "pattern, sample",
    list(
        zip(
            RULES,
            [
                "#include <Python.h>",
                "#pragma omp parallel",
                "pthread_create(",
                "x = malloc(8)",
                'getenv("HOME")',
                "_mm512_fmadd_ps(a, b, c)",
                "#include <stdio.h>",
                "goto out;",
                "_mm_setcsr(0x8040)",
                "fesetenv(&environment);",
            ],
            strict=True,
        )
    ),
)
def test_rules_can_see(pattern, sample):
    assert offenders(pattern, {"sample": without_comments(sample + "/* comment */")})
    assert not offenders(pattern, {"sample": without_comments("/* " + sample + " */ int x;")})


def headers(text):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, flags=re.M)


def test_includes():
    """The kernels know kernels only; the drivers know nothing of vectors."""
    for name, text in KERNELS.items():
        own = [h for h in headers(text) if not (ROOT / "csrc" / "kernels" / h).exists()]
        assert set(own) <= {
            "float.h",
            "math.h",
            "stddef.h",
            "stdint.h",
            "immintrin.h",
            "arm_neon.h",
            "simde/x86/avx512.h",
            "simde/x86/fma.h",
        }, name
    for name, text in C_FILES.items():
        if not name.startswith(("kernels/", "isa/")):
            assert not {
                h for h in headers(text) if h.endswith(("vec.h", "vec_math.h", ".inc.h"))
            }, name
        if name.startswith("isa/"):
            assert headers(text) == ["../kernels/table.inc.h"], name
            assert len(text.strip().splitlines()) <= 6, name
    assert headers(C_FILES["kernels/table.inc.h"])


FUNCTION = re.compile(r"^(?!#)((?:[A-Za-z_]\w*[ *]+)+)(\w+)\s*\([^;{}]*\)\s*\{", re.M)


def functions(text):
    """(declaration words, name) of every function defined at the start of a line."""
    text = re.sub(r"\\\n", " ", text)
    return [(words, name) for words, name in FUNCTION.findall(text) if name not in {"switch", "if"}]


def test_kernels_leak_no_symbol():
    """Code compiled for a newer processor must not be what the linker picks for everybody."""
    count = 0
    for name, text in KERNELS.items():
        for words, function in functions(text):
            assert words.startswith(("static ", "PA_INLINE ")), f"{name}: {function}"
            count += 1
    assert count > 20
    assert re.search(
        r"#define PA_INLINE static inline __attribute__\(\(always_inline\)\)",
        KERNELS["kernels/vec.h"],
    )
    assert functions("int leaked(int x) {")[0][0] == "int "


def test_kernels_have_no_globals():
    """At file scope: functions, types, and the one table. Inside them: no static variable but
    constant ones."""
    for name, text in KERNELS.items():
        for line in re.findall(r"^[ \t]+static\s[^\n]*", text, flags=re.M):
            if re.match(r"[ \t]+static void [\w#]+\(", line):  # a function that a macro makes
                continue
            assert re.match(r"[ \t]+static const \w+ \w+\[\w*\] = ", line), f"{name}: {line}"
        outside = re.findall(
            r"^(?!typedef|struct|enum|extern)[A-Za-z][\w ]*\b\w+\s*(?:\[\w*\])?\s*=[^=]",
            text,
            flags=re.M,
        )
        assert not outside, f"{name}: {outside}"
    table = KERNELS["kernels/table.inc.h"]
    assert len(re.findall(r"^const pa_kernels \w+\(\w+, \w+\) =", table, flags=re.M)) == 1
    assert len(re.findall(r"^extern\b", table, flags=re.M)) == 1


def test_symbols_of_the_library():
    """Everything the drivers export carries the prefix."""
    for name, text in C_FILES.items():
        if name.startswith(("kernels/", "isa/")):
            continue
        for words, function in functions(text):
            assert words.startswith("static ") or function.startswith("pa_"), f"{name}: {function}"


def test_no_function_takes_many_parameters():
    for name, text in C_FILES.items():
        for match in FUNCTION.finditer(re.sub(r"\\\n", " ", text)):
            parameters = match.group(0).split("(", 1)[1].count(",") + 1
            assert parameters <= 10, f"{name}: {match.group(2)} takes {parameters}"


def test_blocks_do_not_depend_on_threads():
    assert not re.search(r"thread|worker_count|team|parallel\.h", C_FILES["plan.c"])
    assert "workers" in C_FILES["attention.c"]


def test_the_door_knows_one_header():
    declared = re.findall(r'cdef extern from "([^"]+)"', DOOR)
    assert sorted(declared) == ["Python.h", "pyattn.h"]
    python_h = re.search(r'cdef extern from "Python.h":\n((?:    .*\n)+)', DOOR).group(1)
    names = re.findall(r"(\w+)\(", python_h)
    assert names == ["PyErr_CheckSignals", "PyThread_get_thread_ident"]
    assert not re.search(r"^\s*(?:include|#include)\b", DOOR, flags=re.M)
    for line in re.findall(r"^\s*(?:cimport|from .* cimport) .*$", DOOR, flags=re.M):
        assert re.match(r"\s*(?:cimport (?:cython|numpy)\b|from libc\.\w+ cimport)", line), line
    # Typed array arguments take None unless told otherwise, and crash.
    signature = re.search(r"def attention\((.*?)\):", DOOR, flags=re.S).group(1)
    assert "cnp.ndarray query not None" in signature
    assert "cnp.ndarray key not None" in signature


@functools.cache
def imports(text):
    """Names of all that a module imports, as "a" or "a.b" for ``from a import b``."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_who_imports_the_door():
    found = {n for n, text in PYTHON_FILES.items() if any("_core" in i for i in imports(text))}
    assert found == {
        "_pages.py",
        "attention.py",
        "cache.py",
        "layers.py",
        "linear_attention.py",
        "runtime.py",
        "positional/_rows.py",
    }


def test_reference_imports_numpy_only():
    """And what numbers are made of in the language itself."""
    assert imports(PYTHON_FILES["reference.py"]) == {"numpy", "math", "__future__.annotations"}


# package -> the folders of pyattn/ that may import it
EXTRAS = {
    "pyattn.models": {"models", "dask", "_command_line"},
    "pyattn.dask": {"dask"},
    "pyattn._command_line": {"_command_line", "__main__.py"},
    "dask": {"dask"},
    "distributed": {"dask"},
    "gguf": {"models"},
    "jinja2": {"models"},
    "onnx": {"models"},
    "safetensors": {"models"},
    "tokenizers": {"models"},
    "tqdm": {"models"},
}


@pytest.mark.parametrize("package", EXTRAS)
def test_extras_stay_in_their_rooms(package):
    """`import pyattn` is light, and needs nothing but NumPy."""
    for name, text in PYTHON_FILES.items():
        if name.split("/")[0] not in EXTRAS[package]:
            found = {i for i in imports(text) if f"{i}.".startswith(f"{package}.")}
            assert not found, f"{name}: {found}"


def test_import_is_light():
    code = """
import sys, numpy
before = set(sys.modules)
import pyattn
new = set(sys.modules) - before
roots = {name.partition(".")[0] for name in new} - sys.stdlib_module_names
print(*sorted(name for name in roots if not name.startswith(("_cython", "cython_runtime"))))
print(sum(name.startswith(("pyattn.models", "pyattn.dask", "pyattn._command")) for name in new))
"""
    assert python(code).split() == ["pyattn", "0"]


def test_environment_is_read_in_one_place():
    found = {n for n, t in PYTHON_FILES.items() if re.search(r"\benviron\b|\bgetenv\b", t)}
    assert found == {"runtime.py"}
    assert not re.search(r"environ\[[^]]+\]\s*=|putenv|setenv", "".join(PYTHON_FILES.values()))


def test_messages_are_worded_in_one_place():
    """In files named _check.py or _check_*.py, of any room; the others raise nothing themselves."""
    rooms = {"masks", "biases", "images", "positional", "models", "dask", "_command_line"}
    assert {"attention.py", "layers.py", *(f"{room}/__init__.py" for room in rooms)} < set(
        PYTHON_FILES
    )
    raising = {
        name
        for name, text in PYTHON_FILES.items()
        if any(isinstance(node, ast.Raise) for node in ast.walk(ast.parse(text)))
    }
    wording = {n for n in PYTHON_FILES if re.fullmatch(r"_check(_\w+)?\.py", Path(n).name)}
    assert raising == wording | {"runtime.py"}
    assert len(wording) >= 6


def test_only_the_command_line_exits():
    found = {n for n, t in PYTHON_FILES.items() if re.search(r"\bsys\.exit\b|\bos\._exit\b", t)}
    assert found == {"__main__.py"}


SETTINGS = {"get_isa", "get_num_threads", "set_isa", "set_num_threads", "show_config"}
MODULES = {"biases", "images", "layers", "masks", "positional", "reference"}


def test_every_function_has_a_twin():
    """Of what a kernel computes: the rest of `positional` is plain NumPy itself."""
    classes = {
        "Linear": "linear",
        "MultiHeadAttention": "multi_head_attention",
        "NeighborhoodAttention": "neighborhood_attention",
        "WindowAttention": "window_attention",
    }
    kernels = {"add_positions", "rope"}
    computed = (set(pyattn.__all__) - SETTINGS - MODULES) | kernels | set(pyattn.layers.__all__)
    computed |= set(pyattn.images.__all__) - {"to_vectors", "from_vectors"}
    assert set(reference.__all__) == {classes.get(name, name) for name in computed}
    assert set(classes) < computed
    assert kernels < set(pyattn.positional.__all__)
    assert set(pyattn.__all__) >= SETTINGS
    for name in pyattn.__all__:
        assert hasattr(pyattn, name)


EXPORTED = {n: getattr(pyattn, n) for n in pyattn.__all__ if n not in MODULES}
EXPORTED |= {
    f"{module}.{n}": getattr(getattr(pyattn, module), n)
    for module in sorted(MODULES - {"reference"})
    for n in getattr(pyattn, module).__all__
}
PUBLIC = {name: public for name, public in EXPORTED.items() if not inspect.isclass(public)}
LAYERS = {"KVCache", "MultiHeadAttention", "layers.Linear"}  # that people make themselves


@pytest.mark.parametrize("name", PUBLIC)
def test_documented(name):
    public = PUBLIC[name]
    doc = inspect.getdoc(public)
    assert doc
    first = doc.splitlines()[0]
    assert first.endswith("."), first
    if name not in SETTINGS:
        for section in ("Parameters", "Returns", "Raises", "Examples"):
            assert re.search(rf"^{section}\n-+$", doc, flags=re.M), section
    elif inspect.signature(public).parameters:
        assert re.search(r"^Parameters\n-+$", doc, flags=re.M)
    assert not undocumented(public)


def undocumented(public):
    """Parameters that the docstring does not name."""
    doc = inspect.getdoc(public)
    return [
        n
        for n in inspect.signature(public).parameters
        if n != "self" and not re.search(rf"^(?:\w+, )*{n}(?:, \w+)*(?: :.*)?$", doc, flags=re.M)
    ]


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layers_are_documented(name):
    layer = EXPORTED[name]
    methods = {
        n: getattr(layer, n)
        for n, member in vars(layer).items()
        if n == "__call__" or (not n.startswith("_") and callable(getattr(layer, n)))
    }
    assert len(methods) >= 2
    for public in (layer, *methods.values()):
        doc = inspect.getdoc(public)
        assert doc.split("\n\n")[0].endswith(".")
        assert not undocumented(public)
        sections = ["Raises", "Attributes" if public is layer else "Returns"]
        if set(inspect.signature(public).parameters) - {"self"}:
            sections.append("Parameters")
        for section in sections:
            assert re.search(rf"^{section}\n-+$", doc, flags=re.M), section
        if public is not layer.__call__:
            assert re.search(r"^Examples\n-+$", doc, flags=re.M)


def test_no_unsafe_arithmetic():
    """Never -ffast-math or a part of it, at link time either."""
    unsafe = r"(?<!Never )-f(?:fast-math|finite-math-only|associative-math|unsafe-math\w*)|-Ofast"
    unsafe += r"|-funsafe-math|-freciprocal-math|-fno-signed-zeros|-ffp-contract=fast|-mdaz-ftz"
    for name in ("setup.py", "Makefile", "pyproject.toml"):
        text = re.sub(r"#[^\n]*", "", (ROOT / name).read_text())
        assert not re.findall(unsafe, text), name
    assert re.search(unsafe, 'CFLAGS = ["-ffast-math"]')
    assert "-ffp-contract=off" in (ROOT / "setup.py").read_text()
    assert not offenders(
        r"fast-math|#\s*pragma\s+(?:GCC|clang)\s+optimize|__attribute__\(\(optimize", C_FILES
    )


def test_nothing_is_tuned_for_the_machine_that_builds():
    for name in ("setup.py", "Makefile"):
        assert not re.search(r"-march=native|-mtune=native", (ROOT / name).read_text()), name
