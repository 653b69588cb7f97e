"""The documentation is true and whole: its pages run, its figures are the report's, every public name stands in it.

The tutorial asserts what its text says while it is built, which takes a minute and is left to ``-m slow``. The how-to pages
are quick, and run here one by one.
"""

import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import celoss
from celoss import boosting

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REPORTS = sorted((ROOT / "bench" / "results").glob("*/report.md"))
CELL = re.compile(r"^```\{code-cell\} ipython3\n(?::[^\n]*\n|\n)*(.*?)^```$", re.MULTILINE | re.DOTALL)
FUNCTIONS = [name for name in celoss.__all__ if name not in ("__version__", "reference")]
BEHIND_DOORS = [f"boosting.{name}" for name in boosting.__all__]


def python(*arguments, cwd, timeout=600):
    """Run Python without a terminal; both its outputs where it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "MPLCONFIGDIR": str(cwd / "matplotlib")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_docs_build(tmp_path):
    for package in ("sphinx", "myst_nb", "furo", "matplotlib", "sklearn"):
        pytest.importorskip(package)

    html = tmp_path / "html"
    python("-m", "sphinx", "-W", "-b", "html", "-d", str(tmp_path / "doctrees"), str(DOCS), str(html), cwd=tmp_path)

    tutorial = (html / "tutorial.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<figcaption>", tutorial)) == 4
    # The article's table: mean losses of its two models.
    for mean in ("0.3333", "0.8067", "0.3400", "1.3784", "0.6391"):
        assert f"<strong>{mean}</strong>" in tutorial
    assert "Traceback" not in tutorial

    api = (html / "api.html").read_text(encoding="utf-8")
    assert {*FUNCTIONS, *BEHIND_DOORS} <= set(re.findall(r'id="celoss\.([\w.]+)"', api))

    performance = (html / "performance.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img[^>]* src="([^"]+\.png)"', performance)
    assert len(pictures) >= len(REPORTS)
    titles = [report.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for report in REPORTS]
    assert [f"<h2>{title}<" in performance for title in titles] == [True] * len(REPORTS)
    assert all((html / picture).is_file() for picture in pictures)


@pytest.mark.parametrize("page", sorted((DOCS / "how-to").glob("[!i]*.md")), ids=lambda page: page.stem)
def test_how_to_runs(page, tmp_path):
    """Cell after cell, as in the build, including those that are not shown and assert what the text says."""
    cells = CELL.findall(page.read_text(encoding="utf-8"))
    assert len(cells) >= 3
    packages = r"^(?:import|from) (xgboost|lightgbm|matplotlib|scipy|sklearn|threadpoolctl)\b"
    for package in re.findall(packages, "\n".join(cells), re.MULTILINE):
        pytest.importorskip(package)
    (tmp_path / "page.py").write_text("\n".join(cells), encoding="utf-8")
    python("-W", "error:::__main__", "page.py", cwd=tmp_path)


@pytest.mark.parametrize("page", sorted((DOCS / "how-to").glob("[!i]*.md")), ids=lambda page: page.stem)
def test_how_to_fits_the_page(page):
    """Code is no wider than the column; what is longer has to be scrolled to be read."""
    cells = CELL.findall(page.read_text(encoding="utf-8"))
    assert [line for cell in cells for line in cell.splitlines() if len(line) > 88] == []


def test_every_public_name_is_in_the_api():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    module, documented, summaries = "", [], []
    for line in text.splitlines():
        if found := re.match(r"\.\. currentmodule:: celoss(?:\.(\w+))?$", line):
            module = f"{found[1]}." if found[1] else ""
        elif found := re.match(r"\.\. auto(?:function|class|exception):: (\w+)$", line):
            documented.append(module + found[1])
        elif found := re.match(r"   (\w+)$", line):
            summaries.append(module + found[1])
    assert sorted(documented) == sorted(summaries) == sorted([*FUNCTIONS, *BEHIND_DOORS])


@pytest.mark.parametrize("name", [*FUNCTIONS, *BEHIND_DOORS, "CrossEntropyLoss.backward", "CrossEntropyLoss.__call__"])
def test_docstring_is_numpydoc(name):
    """Every section in its place, every parameter named, what is returned and raised.

    Not asked for: a type where a parameter is "as for" another function (PR04, PR03), an extended summary (ES01), links
    (SA01), and an example in a method (EX01).
    """
    validate = pytest.importorskip("numpydoc.validate").validate
    found = validate(f"celoss.{name}")["errors"]
    assert [error for error in found if error[0] not in {"PR03", "PR04", "ES01", "SA01", "EX01", "SS05"}] == []
    function = celoss
    for part in name.split("."):
        function = getattr(function, part)
    if name not in ("show_config", "get_num_threads", "CrossEntropyLoss", "BinaryCrossEntropyLoss", "LinearGradients"):
        assert "Raises\n------\n" in inspect.getdoc(function)


# --- the committed report --------------------------------------------------------------------------


def test_the_performance_page_shows_every_report():
    source = [(DOCS / "performance.md").read_text(encoding="utf-8")]
    runpy.run_path(str(DOCS / "conf.py"))["include_reports"](None, "performance", source)
    included = [(DOCS / path).resolve() for path in re.findall(r"^```\{include\} (.+)$", source[0], re.MULTILINE)]
    assert included == REPORTS


def table(text, head):
    """The Markdown table whose first line begins with `head`: row name -> column name -> cell."""
    block = re.search(rf"^\| {re.escape(head)}.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert block, f"there is no table {head!r}"
    names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block[0].splitlines())
    return {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}


def test_accuracy_in_readme_is_the_reports():
    head = "float32, maximum error in ulp, loss / gradient"
    readme = table((ROOT / "README.md").read_text(encoding="utf-8"), head)
    report = table(REPORTS[0].read_text(encoding="utf-8"), head)
    for row, cells in readme.items():
        for peer, cell in cells.items():
            assert report[row][peer] == cell, (row, peer)


def test_speed_in_readme_is_the_reports():
    """The lowest and the highest of what the report has for the shape that README names, rounded to a tenth."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    report = REPORTS[0].read_text(encoding="utf-8")
    one, every = (table(part, "ns per logit") for part in report.split("## Loss and gradient, float32, ")[1:])
    ratios = [float(cells["fastest peer / celoss"]["8192x1000"]) for cells in (one, every)]
    ratios += [float(ratio) for ratio in re.findall(r"^\| 8192x1000: fastest peer .*\| ([\d.]+) \| ", report, re.MULTILINE)]
    assert len(ratios) == 3
    low, high = re.search(r"8192 . 1000 .*?\(([\d.]+) to ([\d.]+) times, run to run\)", readme).groups()
    assert (low, high) == (f"{min(ratios):.1f}", f"{max(ratios):.1f}")


def test_other_figures_in_readme_are_the_reports():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = table(REPORTS[0].read_text(encoding="utf-8"), "what | target | reached")
    reached = {name: float(cells["reached"].split()[0]) for name, cells in targets.items()}

    def largest(kind):
        return max(value for name, value in reached.items() if re.match(rf"accuracy, level \w+, float32 {kind},", name))

    loss, grad = re.search(r"Largest error in float32: loss ([\d.]+) ulp, gradient ([\d.]+) ulp", readme).groups()
    assert (loss, grad) == (f"{largest('loss'):.2f}", f"{largest('grad'):.2f}")

    ratios = re.search(r"\(([\d.]+) times as long; ([\d.]+) times on 512 . 512 . 32 000\)", readme).groups()
    steps = [reached[f"training step {shape}: default threads / n_threads=1"] for shape in ("256x784x10", "512x512x32000")]
    # Halves are rounded either way.
    assert all(abs(float(text) - value) < 0.0051 for text, value in zip(ratios, steps, strict=True))
