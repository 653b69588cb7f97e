"""``python -m celoss`` shows, checks and times the installation, and says so where something is broken."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import celoss
from celoss import __main__ as main
from celoss import _kernels
from celoss._checks import FUNCTIONS


@pytest.fixture(autouse=True)
def one_shape(monkeypatch):
    """Timed for a moment: times are shown, and nothing here looks at them."""
    monkeypatch.setattr(main, "SHAPES", ((32, 10),))
    monkeypatch.setattr(main, "SECONDS_A_SHAPE", 0.0)


@pytest.fixture
def few_functions(monkeypatch):
    """Enough to see that one is broken and others are not."""
    few = ["cross_entropy", "cross_entropy_with_grad", "softmax", "sigmoid"]
    monkeypatch.setattr(main, "FUNCTIONS", {name: FUNCTIONS[name] for name in few})


def runnable():
    return [name for name, runs in _kernels.levels() if runs]


def test_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "celoss"], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^version +{re.escape(celoss.__version__)}$", done.stdout, re.MULTILINE)
    assert re.search(r"^All \d+ checks passed\.$", done.stdout, re.MULTILINE)
    for name in FUNCTIONS:
        assert re.search(rf"^{name} ", done.stdout, re.MULTILINE)
    assert re.search(r"^4096 x 1000 ", done.stdout, re.MULTILINE)
    assert done.stderr == ""


def test_json(few_functions, capsys):
    assert main.main(["--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.err == ""
    assert found["passed"] is True
    assert found["config"]["level"] == _kernels.level()
    # Every function, on every level that runs here, in every dtype.
    assert {check["function"] for check in found["checks"]} == set(main.FUNCTIONS)
    assert {check["level"] for check in found["checks"]} == set(runnable())
    assert {check["dtype"] for check in found["checks"]} >= {"float16", "float32", "float64"}
    assert len(found["checks"]) == len(main.FUNCTIONS) * len(runnable()) * len(main.dtypes())
    (speed,) = found["speed"]
    assert min(speed["celoss"], speed["numpy"], speed["copy"]) > 0
    assert speed["celoss_ulp"] <= 2 < speed["numpy_ulp"]


def test_a_wrong_result_is_found(few_functions, monkeypatch, capsys):
    """One part in a million is off by more than rounding; the other functions still pass."""
    right = celoss.cross_entropy
    monkeypatch.setattr(celoss, "cross_entropy", lambda *a, **k: right(*a, **k) * np.float32(1 + 1e-6))
    assert main.main([]) == 1
    printed = capsys.readouterr().out
    failed = re.findall(r"^FAILED: (\w+), (\w+), level (\w+), input '(.+)': (.+) ulp, 2 allowed", printed, re.MULTILINE)
    assert {name for name, *_ in failed} == {"cross_entropy"}
    assert {level for _, _, level, *_ in failed} == set(runnable())
    assert re.search(r"^\d+ of \d+ checks failed\.$", printed, re.MULTILINE)


def test_one_wrong_level_is_found(few_functions, monkeypatch, capsys):
    broken = runnable()[-1]
    right = celoss.softmax

    def softmax(x, **options):
        p = right(x, **options)
        return p * 2 if _kernels.level() == broken else p

    monkeypatch.setattr(celoss, "softmax", softmax)
    before = _kernels.level()
    assert main.main(["--json"]) == 1
    failed = [check for check in json.loads(capsys.readouterr().out)["checks"] if not check["passed"]]
    assert {check["level"] for check in failed} == {broken}
    assert {check["function"] for check in failed} == {"softmax"}
    assert _kernels.level() == before


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_lost_results_are_found(few_functions, monkeypatch, capsys, value):
    """NaN is no small distance, and neither is a loss of 0 that should be 1e-9."""
    right = celoss.cross_entropy_with_grad

    def cross_entropy_with_grad(logits, target, **options):
        loss, grad = right(logits, target, **options)
        return loss, np.where(np.abs(grad.astype(np.float64)) < 1e-9, value, grad).astype(grad.dtype)

    monkeypatch.setattr(celoss, "cross_entropy_with_grad", cross_entropy_with_grad)
    assert main.main(["--json"]) == 1
    failed = [check for check in json.loads(capsys.readouterr().out)["checks"] if not check["passed"]]
    assert {check["function"] for check in failed} == {"cross_entropy_with_grad"}


def test_an_exception_is_found(few_functions, monkeypatch, capsys):
    def sigmoid(x):
        raise MemoryError("no room")

    monkeypatch.setattr(celoss, "sigmoid", sigmoid)
    assert main.main([]) == 1
    printed = capsys.readouterr().out
    assert "MemoryError: no room" in printed
    assert main.main(["--json"]) == 1
    errors = {check["error"] for check in json.loads(capsys.readouterr().out)["checks"]}
    assert errors == {"", "MemoryError: no room"}
