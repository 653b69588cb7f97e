"""The compiled code under the sanitizers, without Python: src/simd under Address- and UndefinedBehaviorSanitizer, src/threads
under ThreadSanitizer, each driven by a program in tests/native.

The ordinary run takes the level that runs everywhere, not optimised; all levels, as they are built, are the slow edition:
python -m pytest -m slow tests/test_sanitizers.py
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

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


def build(folder, sources, sanitizer, *flags):
    """A program of these sources; skips where the compiler has no such sanitizer."""
    sanitize = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g", "-pthread"]
    (folder / "empty.cpp").write_text("int main() {}")
    if subprocess.run([COMPILER, *sanitize, folder / "empty.cpp", "-o", folder / "empty"], capture_output=True).returncode:
        pytest.skip(f"{COMPILER} has no -fsanitize={sanitizer}")
    objects = compile_objects(folder, sources, *sanitize, *flags)
    run(COMPILER, *sanitize, *objects, "-o", folder / "driver")
    return folder / "driver"


def calls_of_block_ops(folder, levels, optimisation, *arguments):
    """Build the driver with these levels and run it; how many calls of the table each level saw."""
    sources = [(NATIVE / "block_ops_driver.cpp", ["-Wall", "-Wextra"])]
    sources.append((ROOT / "src/simd/level.cpp", [f"-DCELOSS_HAVE_{level.upper()}" for level in levels]))
    for level in levels:
        definitions = [f"-DCELOSS_TABLE=celoss_table_{level}", f'-DCELOSS_LEVEL_NAME="{level}"', "-Wno-psabi"]
        sources.append((ROOT / "src/simd/block_ops.cpp", [*flags_of(level), *definitions]))
    # As in CMakeLists.txt, except for the optimisation.
    driver = build(folder, sources, "address,undefined", optimisation, "-ffp-contract=off", "-fno-math-errno")
    return {name: int(calls) for name, calls in (line.split() for line in run(driver, *arguments).splitlines())}


def test_block_operations_of_the_lowest_level(tmp_path):
    calls = calls_of_block_ops(tmp_path, LEVELS[-1:], "-O0")
    assert calls.keys() == {LEVELS[-1]} and min(calls.values()) > 100_000


@pytest.mark.slow
def test_block_operations_of_all_levels(tmp_path):
    calls = calls_of_block_ops(tmp_path, LEVELS, "-O2", "full")
    assert calls.keys() == {name for name, runs in _kernels.levels() if runs} and min(calls.values()) > 500_000


def test_thread_pool(tmp_path):
    sources = [(NATIVE / "pool_driver.cpp", []), (ROOT / "src/threads/pool.cpp", [])]
    driver = build(tmp_path, sources, "thread", "-O1", "-Wall", "-Wextra")
    assert run(driver, "300").split() == ["pool", "14400"]
