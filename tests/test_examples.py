"""The examples run as a newcomer runs them: as a command, in a directory of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN_DIGITS = Path(__file__).resolve().parents[1] / "examples" / "train_digits.py"


@pytest.fixture
def run_example(tmp_path):
    """A function that runs train_digits.py with the given arguments in ``tmp_path`` and returns what it printed."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(TRAIN_DIGITS), *arguments],
            cwd=tmp_path,
            env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "matplotlib")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    return run


def printed_accuracy(stdout):
    match = re.search(r"^held-out accuracy: ([\d.]+)%", stdout, re.MULTILINE)
    assert match, stdout
    return float(match[1])


def test_train_digits(run_example, tmp_path):
    picture = tmp_path / "curve.png"
    done = run_example("--output", str(picture))

    assert done.returncode == 0, done.stdout + done.stderr
    assert printed_accuracy(done.stdout) >= 97.0
    assert re.search(r"^  celoss +[\d.]+ ms", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^  plain NumPy +[\d.]+ ms", done.stdout, re.MULTILINE), done.stdout
    assert "celoss: 100%" in done.stderr  # the progress bar

    import matplotlib.image

    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] >= 400 and pixels.shape[1] >= 600
    assert pixels[..., :3].std() > 0.05, "the picture is blank"


def test_train_digits_fails_when_it_has_not_learnt(run_example, tmp_path):
    done = run_example("--epochs", "1", "--hidden", "2")

    assert done.returncode == 1, done.stdout + done.stderr
    assert printed_accuracy(done.stdout) < 97.0
    assert "accuracy is too low" in done.stderr
    assert (tmp_path / "digits.png").stat().st_size > 0  # the default output


def test_train_digits_refuses_an_empty_training(run_example):
    done = run_example("--epochs", "0")

    assert done.returncode == 2
    assert "--epochs must be at least 1" in done.stderr
