"""The compiled code under the sanitizers, without an interpreter: the kernels (_kernels.pyx as Cython translates it, src/simd)
under Address- and UndefinedBehaviorSanitizer, src/threads and src/memory under ThreadSanitizer, each driven by a program in
tests/native.

The ordinary run takes the level that runs everywhere, not optimised; all levels, as they are built, are the slow edition:
python -m pytest -m slow tests/test_sanitizers.py
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from celoss import _kernels

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "tests" / "native"
COMPILER = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
LEVELS = [name for name, _ in _kernels.levels()]

pytestmark = pytest.mark.skipif(
    COMPILER is None or platform.system() != "Linux" or not (ROOT / "src").is_dir(), reason="no compiler with sanitizers"
)


def flags_of(level):
    """The flags of a level, from the one place where they are."""
    return re.search(rf"set\(flags_{level}([^)]*)\)", (ROOT / "CMakeLists.txt").read_text())[1].split()


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=1500)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def compile_objects(folder, sources, *flags):
    """Objects of (source, flags of its own), two at a time."""
    objects, running = [], []
    for source, own in sources:
        objects.append(folder / f"{len(objects)}.o")
        command = [COMPILER, "-std=gnu++17", f"-I{ROOT / 'src'}", *flags, *own, "-c", source, "-o", objects[-1]]
        running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"))
    for process in running:
        _, said = process.communicate(timeout=1500)
        assert process.returncode == 0, said
    return objects


def build(folder, sources, sanitizer, *flags, link=()):
    """A program of these sources; skips where the compiler has no such sanitizer."""
    sanitize = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g", "-pthread"]
    (folder / "empty.cpp").write_text("int main() {}")
    if subprocess.run([COMPILER, *sanitize, folder / "empty.cpp", "-o", folder / "empty"], capture_output=True).returncode:
        pytest.skip(f"{COMPILER} has no -fsanitize={sanitizer}")
    objects = compile_objects(folder, sources, *sanitize, *flags)
    run(COMPILER, *sanitize, *objects, *link, "-o", folder / "driver")
    return folder / "driver"


def translate(folder):
    """_kernels.pyx in C++, as CMakeLists.txt has it made; the folders of the headers that it includes."""
    if importlib.util.find_spec("Cython") is None:
        pytest.skip("no Cython")
    headers = [Path(sysconfig.get_path("include")), Path(np.get_include())]
    for folder_of_headers, name in zip(headers, ["Python.h", "numpy/arrayobject.h"], strict=True):
        if not (folder_of_headers / name).exists():
            pytest.skip(f"no {name}")
    source, module = ROOT / "src/celoss/_kernels.pyx", folder / "_kernels.cpp"
    run(sys.executable, "-m", "cython", "-3", "--cplus", "--module-name", "celoss._kernels", source, "-o", module)
    return [folder, *headers]


def calls_of_kernels(folder, levels, optimisation, *arguments):
    """Build the driver with these levels and run it; how many calls each level saw."""
    own = [flag for path in translate(folder) for flag in ("-isystem", path)]  # warnings of the driver's own code only
    own += ["-Wall", "-Wextra", '-DCELOSS_COMPILER=""', '-DCELOSS_BUILD_TYPE=""']
    sources = [(NATIVE / "kernels_driver.cpp", own), (ROOT / "src/threads/pool.cpp", [])]
    sources.append((ROOT / "src/simd/level.cpp", [f"-DCELOSS_HAVE_{level.upper()}" for level in levels]))
    for level in levels:
        definitions = [f"-DCELOSS_TABLE=celoss_table_{level}", f'-DCELOSS_LEVEL_NAME="{level}"', "-Wno-psabi"]
        sources.append((ROOT / "src/simd/table.cpp", [*flags_of(level), *definitions]))
    # As in CMakeLists.txt, except for the optimisation.
    flags = [optimisation, "-ffp-contract=off", "-fno-math-errno"]
    # What the module calls of Python is at address 0: the driver never comes there.
    link = ["-no-pie", "-Wl,--unresolved-symbols=ignore-all"]
    driver = build(folder, sources, "address,undefined", *flags, "-fno-pie", link=link)
    return {name: int(calls) for name, calls in (line.split() for line in run(driver, *arguments).splitlines())}


def test_kernels_on_the_lowest_level(tmp_path):
    calls = calls_of_kernels(tmp_path, LEVELS[-1:], "-O0")
    assert calls.keys() == {LEVELS[-1]} and min(calls.values()) > 200_000


@pytest.mark.slow
def test_kernels_on_all_levels(tmp_path):
    calls = calls_of_kernels(tmp_path, LEVELS, "-O2", "full")
    assert calls.keys() == {name for name, runs in _kernels.levels() if runs} and min(calls.values()) > 1_000_000


def test_thread_pool(tmp_path):
    sources = [(NATIVE / "pool_driver.cpp", []), (ROOT / "src/threads/pool.cpp", [])]
    driver = build(tmp_path, sources, "thread", "-O1", "-Wall", "-Wextra")
    assert run(driver, "300").split() == ["pool", "14400"]


def test_kept_blocks(tmp_path):
    sources = [(NATIVE / "kept_driver.cpp", []), (ROOT / "src/memory/kept.cpp", [])]
    driver = build(tmp_path, sources, "thread", "-O1", "-Wall", "-Wextra")
    assert run(driver, "500").split() == ["kept", "4000"]
