"""README.md tells the truth: its Python runs and prints what it says, its commands are the ones that .ci/run runs."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

MAIN_COMMAND = 'python -m pip install ".[examples]" && python examples/train_digits.py'
TEST_COMMAND = 'python -m pip install ".[test]" && python -m pytest'


def fenced_blocks(language):
    """The fenced blocks of README.md in ``language``, each with the number of its first line."""
    blocks = re.finditer(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [(README.count("\n", 0, block.start(1)) + 1, block[1]) for block in blocks]


def section(title):
    """The text of README.md under the heading ``title``, up to the next heading of that level."""
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert match, f"README.md has no section {title!r}"
    return match[1]


def test_readme_has_python():
    assert len(fenced_blocks("python")) >= 3


@pytest.mark.parametrize(("line", "source"), [pytest.param(*block, id=f"line {block[0]}") for block in fenced_blocks("python")])
def test_python_of_readme(line, source, capsys):
    """Each block runs by itself, and each ``print(...)  # text`` in it prints that text."""
    # Blank lines in front, so that an error names the line of README.md.
    code = compile("\n" * (line - 1) + source, str(ROOT / "README.md"), "exec")
    exec(code, {"__name__": "__main__"})

    promised = re.findall(r"^print\(.*\)  # (.*)$", source, re.MULTILINE)
    assert promised, "the block prints nothing that could be checked"
    assert capsys.readouterr().out.splitlines() == promised


def test_set_up_is_two_commands():
    commands = [line for _, block in fenced_blocks("sh") if block in section("Set-up") for line in block.splitlines()]
    assert commands == [MAIN_COMMAND, TEST_COMMAND]


def test_ci_runs_the_commands_of_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    steps = [shlex.split(line) for line in script.splitlines() if line.startswith("step ")]
    commands = [command for _, _, command in steps if '".' in command]

    # All that is added is where the picture goes: out of the checkout.
    assert commands == [TEST_COMMAND, MAIN_COMMAND + ' --output "$PICTURE"']


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)", text)
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


def test_no_placeholder_is_left():
    assert re.findall(r"@@\w*(?:@@)?", README) == []
