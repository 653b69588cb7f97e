"""The package as such: what it ships, what importing it does, and what it must not do."""

import importlib.metadata
import importlib.resources
import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

import celoss


def run(code, **environment):
    """Run `code` in a new interpreter; its output."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_version():
    assert celoss.__version__ == importlib.metadata.version("celoss")


def test_typing_information_is_shipped():
    assert importlib.resources.files("celoss").joinpath("py.typed").is_file()


def test_public_names():
    assert all(hasattr(celoss, name) for name in celoss.__all__)
    assert len(set(celoss.__all__)) == len(celoss.__all__)
    assert {"cross_entropy", "cross_entropy_with_grad", "CrossEntropyLoss", "reference"} <= set(celoss.__all__)


def test_imports_nothing_but_numpy():
    code = (
        "import sys, numpy; before = set(sys.modules); import celoss;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "new -= {'numpy', 'cython_runtime'} | sys.stdlib_module_names;"
        "print(sorted(name for name in new if name[:7] != '_cython'))"
    )
    assert run(code).strip() == "['celoss']"


def test_requires_numpy_only():
    needed = [line for line in importlib.metadata.requires("celoss") if "extra ==" not in line]
    assert len(needed) == 1 and needed[0].startswith("numpy")


def test_import_leaves_floating_point_alone():
    """Subnormal numbers survive, and so does the rounding mode: some libraries flush to zero once imported."""
    code = (
        "import numpy as np, celoss;"
        "celoss.cross_entropy_with_grad(np.zeros((3000, 300), np.float32), np.zeros(3000, int), n_threads=2);"
        "print(float(np.float32(1e-38) / np.float32(16)) > 0, float(np.float64(1e-308)) / 16 > 0, 1.0 + 2**-53 == 1.0,"
        "-1.0 - 2**-53 == -1.0)"
    )
    assert run(code).split() == ["True"] * 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_threads_start_with_the_first_large_call():
    code = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
import celoss
from celoss import _kernels
imported = count()
celoss.set_num_threads(3)
celoss.cross_entropy(np.zeros((10, 10)), np.zeros(10, int))
small = count()
celoss.cross_entropy(np.zeros((3000, 300)), np.zeros(3000, int))
print(imported - before, small - before, count() - before, _kernels.helper_threads())
"""
    assert run(code).split() == ["0", "0", "2", "2"]


def test_import_makes_no_output_and_no_warning():
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-X", "dev", "-c", "import celoss"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stderr


def test_imported_twice_in_one_process():
    """A second import finds the module; a subinterpreter either works or says why not."""
    run("import celoss, importlib; importlib.reload(celoss); import numpy as np; celoss.cross_entropy([[1., 2.]], [0])")


def test_show_config(capsys):
    celoss.show_config()
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert printed["version"] == celoss.__version__
    assert printed["numpy"] == np.__version__
    assert int(printed["threads"]) == celoss.get_num_threads()
    assert {"python", "compiler", "build_type", "levels_built", "levels_runnable", "level"} <= printed.keys()


def test_positional_arguments():
    """Two, and no more: everything else has a name."""
    for name in ("cross_entropy", "cross_entropy_with_grad"):
        kinds = [p.kind for p in inspect.signature(getattr(celoss, name)).parameters.values()]
        assert kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
        assert set(kinds[2:]) == {inspect.Parameter.KEYWORD_ONLY}
