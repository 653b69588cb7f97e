"""The documentation builds without a warning. The tutorial runs in the build, and asserts there what its text says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.slow
def test_docs_build(tmp_path):
    for package in ("sphinx", "myst_nb", "furo", "matplotlib", "sklearn"):
        pytest.importorskip(package)

    html = tmp_path / "html"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-b", "html", "-d", str(tmp_path / "doctrees"), str(DOCS), str(html)],
        cwd=tmp_path,
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "matplotlib")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    tutorial = (html / "tutorial.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<figcaption>", tutorial)) == 4
    # The article's table: mean losses of its two models.
    for mean in ("0.3333", "0.8067", "0.3400", "1.3784", "0.6391"):
        assert f"<strong>{mean}</strong>" in tutorial
    assert "Traceback" not in tutorial

    api = (html / "api.html").read_text(encoding="utf-8")
    import celoss

    documented = set(re.findall(r'id="celoss\.(\w+)"', api))
    assert set(celoss.__all__) - {"__version__", "reference"} <= documented
