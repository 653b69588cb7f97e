"""Instruction-set levels: one exported symbol each, the best runnable one is chosen, CELOSS_LEVEL overrides."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import celoss
from celoss import _kernels

ROOT = Path(__file__).resolve().parents[1]
LEVELS = dict(_kernels.levels())


def imported(level, code="import celoss; from celoss import _kernels; print(_kernels.level())"):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CELOSS_LEVEL": level},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_the_best_runnable_level_is_chosen():
    best = next(name for name, runs in _kernels.levels() if runs)
    assert imported("").stdout.strip() == best


def test_one_level_runs_everywhere():
    name, runs = _kernels.levels()[-1]
    assert runs and name in ("baseline", "neon")


# What a level needs, by Linux's names.
V3 = {"avx2", "fma", "bmi1", "bmi2", "f16c"}
FEATURES = {"v3": V3, "v4": V3 | {"avx512f", "avx512vl", "avx512bw", "avx512dq"}}


@pytest.mark.parametrize("name", sorted(LEVELS.keys() & FEATURES))
def test_a_level_runs_where_the_cpu_has_its_features(name):
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        features = set(re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)[1].split())
    except (OSError, TypeError):
        pytest.skip("no list of features in /proc/cpuinfo")
    assert LEVELS[name] == (FEATURES[name] <= features)


@pytest.mark.parametrize("name", LEVELS)
def test_level_by_name(name):
    done = imported(name)
    if LEVELS[name]:
        assert done.stdout.strip() == name
    else:
        assert done.returncode != 0 and "ImportError" in done.stderr and "cannot run on this machine" in done.stderr


@pytest.mark.parametrize("name", ["v5", "V4", "avx2", "0", " v3"])
def test_unknown_level_is_refused(name):
    done = imported(name)
    assert done.returncode != 0
    assert "ImportError" in done.stderr and f"CELOSS_LEVEL={name!r}" in done.stderr
    assert all(built in done.stderr for built in LEVELS)


def test_use_level():
    before = _kernels.level()
    try:
        for name, runs in LEVELS.items():
            if runs:
                _kernels.use_level(name)
                assert _kernels.level() == name
        kept = _kernels.level()
        with pytest.raises(ImportError, match="v9"):
            _kernels.use_level("v9")
        assert _kernels.level() == kept
    finally:
        _kernels.use_level(before)


def test_show_config_names_the_level(level, capsys):
    celoss.show_config()
    printed = capsys.readouterr().out
    assert re.search(rf"^level +{level}$", printed, re.MULTILINE)
    assert re.search(rf"^levels_built +{', '.join(LEVELS)}$", printed, re.MULTILINE)


def test_a_level_gives_the_same_bits_again(level):
    rng = np.random.default_rng(0)
    for classes in (3, 40):
        x, target = rng.standard_normal((50, classes)).astype(np.float32), rng.integers(0, classes, 50)
        first = celoss.cross_entropy_with_grad(x, target, reduction="none")
        again = celoss.cross_entropy_with_grad(x.copy(), target.copy(), reduction="none")
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])


# ---- the objects ---------------------------------------------------------------------------------------------------


def flags_of_levels():
    """The flags of each level, as CMakeLists.txt has them."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    flags = {name: flags.split() for name, flags in re.findall(r"^set\(flags_(\w+)([^)]*)\)", text, re.MULTILINE)}
    return {name: flags["common"] + flags[name] for name in LEVELS}


@pytest.mark.parametrize("name", LEVELS)
def test_an_object_exports_one_symbol(name, tmp_path):
    """Anything else, such as an inline function with this level's instructions, might end up in another level."""
    compiler = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
    nm = shutil.which("nm")
    if not compiler or not nm:
        pytest.skip("no C++ compiler or no nm")
    source = ROOT / "src" / "simd" / "table.cpp"
    if not source.exists():
        pytest.skip("the sources are not here")
    made = tmp_path / f"{name}.o"
    subprocess.run(
        [compiler, "-std=gnu++17", "-c", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden",
         *flags_of_levels()[name], "-O1", "-Wno-psabi",
         f"-DCELOSS_TABLE=celoss_table_{name}", f'-DCELOSS_LEVEL_NAME="{name}"',
         f"-I{ROOT / 'src'}", str(source), "-o", str(made)],
        check=True, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    listed = subprocess.run([nm, "--defined-only", "-g", str(made)], check=True, capture_output=True, encoding="utf-8")
    symbols = [line.split()[-1].lstrip("_") for line in listed.stdout.splitlines() if line.strip()]
    assert symbols == [f"celoss_table_{name}"]


def test_the_extension_exports_its_initialiser_only():
    """Symbols of the C++ library in the table of exports could meet those of other extensions in the process."""
    nm = shutil.which("nm")
    if not nm or not sys.platform.startswith("linux"):
        pytest.skip("no nm, or not Linux")
    listed = subprocess.run([nm, "-D", "--defined-only", _kernels.__file__], check=True, capture_output=True, encoding="utf-8")
    symbols = [line.split()[-1] for line in listed.stdout.splitlines()]
    # std::thread has a class for each kind of function it runs; libstdc++ marks those visible.
    assert [name for name in symbols if "NSt6thread11_State_impl" not in name] == ["PyInit__kernels"]
