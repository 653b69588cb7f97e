"""The examples run as a newcomer runs them: as a command, in a directory of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def run_example(tmp_path):
    """A function that runs an example with the given arguments in ``tmp_path`` and returns what it printed."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")

    def run(name, *arguments):
        return subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
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


def assert_shows_something(picture):
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] >= 400 and pixels.shape[1] >= 600
    assert pixels[..., :3].std() > 0.05, "the picture is blank"


def test_train_digits(run_example, tmp_path):
    picture = tmp_path / "curve.png"
    done = run_example("train_digits.py", "--output", str(picture))

    assert done.returncode == 0, done.stdout + done.stderr
    assert printed_accuracy(done.stdout) >= 97.0
    assert re.search(r"^  celoss +[\d.]+ ms", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^  plain NumPy +[\d.]+ ms", done.stdout, re.MULTILINE), done.stdout
    assert "celoss: 100%" in done.stderr  # the progress bar
    assert_shows_something(picture)

    # Cross-entropy leaves a bad start at once, squared error does not.
    line = re.search(r"after one epoch: ([\d.]+)% with cross-entropy, ([\d.]+)% with squared error$", done.stdout, re.MULTILINE)
    assert line, done.stdout
    assert float(line[1]) > 75
    assert float(line[2]) < 50


def test_train_binary(run_example, tmp_path):
    picture = tmp_path / "unit.png"
    done = run_example("train_binary.py", "--output", str(picture))

    assert done.returncode == 0, done.stdout + done.stderr
    assert printed_accuracy(done.stdout) >= 95.0
    assert "celoss: 100%" in done.stderr  # the progress bar
    assert_shows_something(picture)


@pytest.mark.parametrize(
    ("example", "arguments", "required", "picture"),
    [
        ("train_digits.py", ["--epochs", "1", "--hidden", "2"], 97.0, "digits.png"),
        ("train_binary.py", ["--epochs", "1", "--batch-size", "1000"], 95.0, "binary.png"),  # a single step
    ],
)
def test_fails_when_it_has_not_learnt(example, arguments, required, picture, run_example, tmp_path):
    done = run_example(example, *arguments)

    assert done.returncode == 1, done.stdout + done.stderr
    assert printed_accuracy(done.stdout) < required
    assert "accuracy is too low" in done.stderr
    assert (tmp_path / picture).stat().st_size > 0  # the default output


@pytest.mark.parametrize(("example", "option"), [("train_digits.py", "--epochs"), ("train_binary.py", "--batch-size")])
def test_refuses_an_empty_training(example, option, run_example):
    done = run_example(example, option, "0")

    assert done.returncode == 2
    assert f"{option} must be at least 1" in done.stderr
