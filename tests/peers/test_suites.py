"""The test suites that SciPy and scikit-learn ship, run on celoss: each by a plugin that puts celoss in their place."""

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

# Tests that celoss cannot pass, and why. Each has to fail: one that passes is taken off the list.
DEVIATIONS: dict[str, dict[str, str]] = {"scipy_on_celoss": {}, "sklearn_on_celoss": {}}


def outcomes(plugin, module, folder):
    """Name, outcome and message of each test of a module of a package that is run with a plugin."""
    report, settings = folder / "report.xml", folder / "pytest.ini"
    settings.write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", settings, "--rootdir", folder, "-p", "no:cacheprovider", "-p", plugin,
         "--junitxml", report, "--pyargs", module],
        env={**os.environ, "PYTHONPATH": str(HERE)}, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        encoding="utf-8", timeout=600,
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    found = []
    for case in ET.parse(report).iter("testcase"):
        problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        found.append((case.get("name"), "passed" if problem is None else problem.tag, problem))
    return found


@pytest.mark.parametrize(
    ("plugin", "package", "module", "least"),
    [
        ("scipy_on_celoss", "scipy", "scipy.special.tests.test_logsumexp", 25),
        ("sklearn_on_celoss", "sklearn", "sklearn._loss.tests.test_loss", 250),
    ],
    ids=["scipy", "scikit-learn"],
)
def test_suite(plugin, package, module, least, tmp_path):
    pytest.importorskip(package, reason=f"{package} is not installed")
    if importlib.util.find_spec(module.rpartition(".")[0]) is None:
        pytest.skip(f"{package} is installed without its tests")
    found = outcomes(plugin, module, tmp_path)
    failed = {name: problem.get("message") for name, outcome, problem in found if outcome in ("failure", "error")}
    count = Counter(outcome for _, outcome, _ in found)
    print(f"{package}: {dict(count)}")
    assert {name: message for name, message in failed.items() if name not in DEVIATIONS[plugin]} == {}
    assert set(DEVIATIONS[plugin]) <= set(failed), "a deviation that is none any more"
    assert count["passed"] >= least
