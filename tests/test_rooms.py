"""The rooms of docs/design.md are those of `src`: every file stands in its tables, and uses only what its row allows.

A table of rooms begins with the column "place". Its third column names the files that those of a row may import ("everything
below": those of the rows below); in a table without one, a file may include those of the rows above it. The .pyx and .pxi
files are one module to the compiler: between them counts whose names a file uses. What its row calls a door may import the
public names alone, and no row may import it.
"""

import ast
import os
import re
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/design.md"
PUBLIC = "src/celoss/__init__.py"
PYTHON, CYTHON, CPP = (".py", ".pyi"), (".pyx", ".pxi", ".pxd"), (".h", ".hpp", ".cpp")

TABLE = re.compile(r"^\| place\b.*\n\|[-|: ]+\|\n((?:\|.*(?:\n|\Z))+)", re.M)
TEXT = re.compile(r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*')  # strings and comments
HEADER = re.compile(r'^[ \t]*(?:#[ \t]*include|cdef[ \t]+extern[ \t]+from)[ \t]*["<]([^">\n]+)', re.M)
INCLUDE = re.compile(r'^[ \t]*include[ \t]+["\']([^"\'\n]+)', re.M)
IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+)?c?import[ \t]+(\([^)]*\)|[^\n]*)", re.M)
KIND = re.compile(r"(?:cdef |cpdef |ctypedef )?(?:packed )?(def|struct|union|enum|cppclass|class|fused)\b ?(\w*)(.*)")


def rooms(root):
    """The tables of the page: each file with those that it may import."""
    rows = []
    for number, body in enumerate(TABLE.findall((root / PAGE).read_text(encoding="utf-8"))):
        for row in body.splitlines():
            place, _, *may = row.strip("|").split("|")
            names = re.findall(r"`([^`]+)`", place)
            folder = names[0].rpartition("/")[0]
            rows.append((number, [n if "/" in n else f"{folder}/{n}" for n in names], may))
    allowed = {}
    for at, (number, files, may) in enumerate(rows):
        if not may or "everything below" in may[0]:
            near = rows[at + 1 :] if may else rows[:at]
            found = [file for other, files, _ in near if other == number for file in files]
        else:
            names = {file: (file, os.path.basename(file), Path(file).stem) for _, files, _ in rows for file in files}
            found = []
            for word in re.findall(r"`([^`]+)`", may[0]):
                found += [file for file in names if word in names[file]] or [word]
        for file in files:
            allowed[file] = set(found) - {file}
    return allowed


def sources(root):
    """Text of every source file, by its path from the root."""
    files = (file for file in sorted((root / "src").rglob("*")) if file.suffix in PYTHON + CYTHON + CPP)
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def blank(text):
    """The text with spaces for strings and comments."""
    return TEXT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def definitions(text):
    """The names that a Cython file defines for the whole module: functions, types, constants of an enum, variables."""
    kind = margin = ""
    for line in re.sub(r"\[[^]\n]*\]", "", blank(text)).splitlines():
        if re.match(r"\S", line):
            kind, margin = "", "    " if line.startswith("cdef extern") else ""
        if not line.strip() or line.startswith("cdef extern"):
            continue
        line = line.removeprefix(margin)
        if line[0] in " )":  # goes on with what began above
            yield from re.findall(r"(\w+)[^,]*", line) if kind == "enum" else ()
        elif found := KIND.match(line):
            kind, name, rest = found.groups()
            yield from [name] if name else ()
            yield from re.findall(r"(\w+)[^,]*", rest) if kind == "enum" else ()
        elif found := re.match(r"[^(=]*\(\*(\w+)\)", line):  # a pointer to functions
            kind = ""
            yield found[1]
        elif margin or re.match(r"cdef |cpdef |ctypedef |\w+ = ", line):
            kind = ""
            yield from re.findall(r"(\w+) *(?=[,;])", re.split(r"[=(]", line)[0].rstrip() + ";")


def module(base, name, texts):
    """The file of celoss that `from base import name` (or `import name`) uses; "tests" and "bench" as they are; else None."""
    path = re.sub(r"^\.", "celoss.", base).split(".") + name.split(".")
    package, name, *_ = [*filter(None, path), ""]
    if package != "celoss":
        return package if package in ("tests", "bench") else None
    return next((file for suffix in (".py", ".pyx", ".pxd") if (file := f"src/celoss/{name}{suffix}") in texts), PUBLIC)


def header(file, name, root):
    """The file that an #include means, from the root; None for one of the system."""
    if name.startswith(("Python.h", "numpy/")) and not file.startswith("src/celoss/"):
        return name
    for folder in (os.path.dirname(file), "src"):
        if (root / folder / name).is_file():
            return os.path.normpath(os.path.join(folder, name)).replace(os.sep, "/")
    return None


def uses(root):
    """What the source files use: (file, line, used file, the words)."""
    texts = sources(root)
    owners = {name: file for file, text in texts.items() if file.endswith(CYTHON) for name in definitions(text)}
    for file, text in texts.items():
        found = []
        if file.endswith(PYTHON):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    base = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
                    found += [(node.lineno, module(base, alias.name, texts), ast.unparse(node)) for alias in node.names]
        else:
            found += [(line_of(m), header(file, m[1], root), m[0].strip()) for m in HEADER.finditer(text)]
        if file.endswith(CYTHON):
            for m in IMPORT.finditer(blank(text)):
                names = re.findall(r"([\w.*]+)(?: +as +\w+)?", m[2])
                found += [(line_of(m), module(m[1] or "", name, texts), m[0].strip()) for name in names]
        if file.endswith((".pyx", ".pxi")):  # a .pxd sees only what it imports
            names = re.finditer(r"(?<![\w.])[A-Za-z_]\w*", blank(text))
            found += [(line_of(m), owners[m[0]], m[0]) for m in names if m[0] in owners]
        for line, used, words in found:
            if used and (used != file or file.endswith(CPP)):
                yield file, line, used, words


def line_of(match):
    return match.string.count("\n", 0, match.end()) + 1


def strangers(root):
    """Files without a row, and rows without a file."""
    there, allowed = sources(root), rooms(root)
    yield from (f"{file}: stands in no table of {PAGE}" for file in there if file not in allowed)
    yield from (f"{PAGE}: there is no {file}" for file in sorted({*allowed, *chain(*allowed.values())}) if file not in there)


def trespasses(root):
    """Uses that no row allows."""
    allowed = rooms(root)
    for file, line, used, words in uses(root):
        if used not in allowed.get(file, ()):
            yield f"{file}:{line}: `{words}` uses {used}, which its row in {PAGE} does not allow"


def circles(root):
    """A circle in what the rows allow, or in what the files use."""
    used = {}
    for file, _, other, _ in uses(root):
        used.setdefault(file, set()).add(other)
    for graph, what in ((rooms(root), f"{PAGE} allows"), (used, "the sources have")):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            yield f"{what} a circle: " + " -> ".join(error.args[1][::-1])


def inclusions(root):
    """What the parts of the Cython module break: each is included once, by the .pyx file, behind its own definitions."""
    texts = sources(root)
    at = [(file, m) for file, text in texts.items() if file.endswith(CYTHON) for m in INCLUDE.finditer(text)]
    for file in texts:
        count = sum(f"src/celoss/{m[1]}" == file for _, m in at)
        if count != file.endswith(".pxi"):
            yield f"{file}: is included {count} times"
    for file, m in at:
        if not file.endswith(".pyx"):
            yield f"{file}:{line_of(m)}: only the .pyx file includes"
        elif any(definitions(m.string[m.end() + 1 :])):
            yield f"{file}:{line_of(m)}: {m[0]} stands before definitions of the file"


def doors(root):
    """What the doors to other libraries break: each is nobody's import, and imports nothing but the public names."""
    allowed = rooms(root)
    places = "".join(re.findall(r"^\|([^|]*)\| a door to ", (root / PAGE).read_text(encoding="utf-8"), re.M))
    for door in (f"src/celoss/{name.removeprefix('src/celoss/')}" for name in re.findall(r"`([^`]+)`", places)):
        yield from (f"{PAGE}: {door} is a door, and may not import {file}" for file in sorted(allowed[door] - {PUBLIC}))
        yield from (f"{PAGE}: {file} may import {door}, which is a door" for file, may in allowed.items() if door in may)


RULES = [strangers, trespasses, circles, inclusions, doors]


@pytest.mark.parametrize("rule", RULES)
def test_rooms(rule):
    assert not (found := list(rule(ROOT))), "\n".join(found)


# A house in which every rule holds, and what breaks each of them: (file, lines added at its end, rule, what it says).
HOUSE = {
    "docs/design.md": """
| place | what it is | may import |
|---|---|---|
| `src/celoss/torch.py` | a door to PyTorch | `__init__.py` |
| `src/celoss/__init__.py` | names | everything below |
| `src/celoss/losses.py`, `checks.py` | functions | `_core` |
| `src/celoss/_entries.pxi` | entries | `_core.pyx` |
| `src/celoss/_core.pyx`, `_core.pyi` | passes | `_simd` |
| `src/celoss/_simd.pxd` | declarations | `contract.h` |

| place, in order | what it is |
|---|---|
| `src/simd/contract.h` | types |
| `src/simd/sum.hpp` | sums |
| `src/simd/table.cpp` | all |
""",
    "src/celoss/__init__.py": "from celoss.losses import loss",
    "src/celoss/torch.py": "import torch\nimport celoss",
    "src/celoss/losses.py": "import numpy as np\nfrom celoss import _core",
    "src/celoss/checks.py": "",
    "src/celoss/_core.pyi": "",
    "src/celoss/_core.pyx": """
from celoss._simd cimport (
    Tile,  # `entry` in a comment is none
)
cdef enum Kind:
    A = 0  # entry
    B = 1
cdef int run(const Tile* entries, Kind kind) noexcept nogil:
    return entries.entry == B
include "_entries.pxi"
""",
    "src/celoss/_entries.pxi": 'def entry(int kind):\n    "run"\n    return run(NULL, A)',
    "src/celoss/_simd.pxd": 'cdef extern from "simd/contract.h" nogil:\n    cdef struct Tile:\n        int entry',
    "src/simd/contract.h": "#include <stddef.h>",
    "src/simd/sum.hpp": '#include "contract.h"',
    "src/simd/table.cpp": '#include "contract.h"\n#include "sum.hpp"',
}
BREAKS = [
    ("src/celoss/more.py", "", strangers, "src/celoss/more.py: stands in no table"),
    ("docs/design.md", "| `src/simd/gone.hpp` | nothing |", strangers, "there is no src/simd/gone.hpp"),
    ("docs/design.md", HOUSE["docs/design.md"].replace("`_simd`", "`gone`"), strangers, "there is no gone"),
    ("src/celoss/losses.py", "def f():\n    from . import checks", trespasses, "losses.py:4: `from . import checks` uses src/"),
    ("src/celoss/losses.py", "from .checks import f", trespasses, "losses.py:3: `from .checks import f` uses src/celoss/ch"),
    ("src/celoss/losses.py", "import celoss", trespasses, "losses.py:3: `import celoss` uses src/celoss/__init__.py"),
    ("src/celoss/losses.py", "import tests.truth", trespasses, "losses.py:3: `import tests.truth` uses tests"),
    ("src/celoss/_core.pyx", "from bench import cases", trespasses, "_core.pyx:11: `from bench import cases` uses bench"),
    ("src/celoss/_core.pyx", "from celoss import losses", trespasses, "_core.pyx:11: `from celoss import losses` uses"),
    ("src/celoss/_core.pyx", 'cdef extern from "simd/sum.hpp":\n    int f()', trespasses, "uses src/simd/sum.hpp"),
    ("src/celoss/_core.pyx", "cdef int f():\n    return entry(0)", trespasses, "_core.pyx:12: `entry` uses src/celoss/_ent"),
    ("src/celoss/_entries.pxi", "cdef Tile* f()", trespasses, "_entries.pxi:4: `Tile` uses src/celoss/_simd.pxd"),
    ("src/celoss/_simd.pxd", "cimport celoss.losses", trespasses, "_simd.pxd:4: `cimport celoss.losses` uses"),
    ("src/simd/sum.hpp", '#  include "table.cpp"', trespasses, 'sum.hpp:2: `#  include "table.cpp` uses src/simd/table.cpp'),
    ("src/simd/sum.hpp", "#include <Python.h>", trespasses, "sum.hpp:2: `#include <Python.h` uses Python.h"),
    ("src/simd/sum.hpp", '#include "table.cpp"', circles, "the sources have a circle: src/simd/"),
    ("docs/design.md", HOUSE["docs/design.md"].replace("`_simd`", "`losses`"), circles, "design.md allows a circle"),
    ("src/celoss/_core.pyx", "cdef int f() noexcept:\n    return 0", inclusions, "_core.pyx:10: include"),
    ("src/celoss/_core.pyx", 'include "_entries.pxi"', inclusions, "src/celoss/_entries.pxi: is included 2 times"),
    ("src/celoss/more.pxi", "", inclusions, "src/celoss/more.pxi: is included 0 times"),
    ("src/celoss/_simd.pxd", 'include "_entries.pxi"', inclusions, "_simd.pxd:4: only the .pyx file includes"),
    ("src/celoss/torch.py", "from celoss import _core", trespasses, "torch.py:3: `from celoss import _core` uses src/celoss/_co"),
    ("src/celoss/torch.py", "from celoss.losses import loss", trespasses, "torch.py:3: `from celoss.losses import loss` uses"),
    ("src/celoss/__init__.py", "from celoss import torch", trespasses, "uses src/celoss/torch.py"),
    ("docs/design.md", HOUSE["docs/design.md"].replace("`__init__.py` |", "`losses` |"), doors, "may not import src/celoss/los"),
    ("docs/design.md", HOUSE["docs/design.md"].replace("`_core` |", "`torch` |"), doors, "losses.py may import src/celoss/torch"),
]  # fmt: skip


@pytest.fixture
def house(tmp_path):
    for file, text in HOUSE.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text.rstrip() + "\n", encoding="utf-8")
    return tmp_path


def test_a_house_in_order(house):
    assert [list(rule(house)) for rule in RULES] == [[] for _ in RULES]


@pytest.mark.parametrize(("file", "lines", "rule", "complaint"), BREAKS)
def test_every_rule_can_fail(house, file, lines, rule, complaint):
    with (house / file).open("a", encoding="utf-8") as changed:
        changed.write(lines + "\n")
    assert complaint in "\n".join(rule(house))
