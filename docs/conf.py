"""Sphinx: ``python -m sphinx -W -b html docs docs/_build/html``. The tutorial runs anew in every build."""

from importlib.metadata import version
from pathlib import Path

project = "celoss"
author = "celoss contributors"
copyright = author
release = version("celoss")
version = release

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
extensions += ["sphinx-mathjax-offline"]  # formulas need no network
exclude_patterns = ["_build"]
default_role = "py:obj"  # `name` in a docstring links to that name where it is one of celoss
add_module_names = False

# Types and defaults stand in the text of the docstrings.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_param = False  # keeps "logits, target, ...: as for" in one line
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3  # links such as tutorial.md#three-losses
# "inline": {eval} puts a number that was computed into a sentence. A cell that raises or warns fails the build with -W.
nb_execution_mode = "inline"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "warn"
nb_merge_streams = True
nb_code_prompt_show = "The code of this figure"
nb_code_prompt_hide = "The code of this figure"
nb_render_markdown_format = "gfm"  # CommonMark with tables

html_theme = "furo"
html_title = f"celoss {release}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["celoss.css"]


def include_reports(app, docname: str, source: list[str]) -> None:
    """Every report that bench/results holds, at the end of the page; those of one machine's levels follow one another."""
    if docname == "performance":
        root = Path(__file__).resolve().parents[1]
        for report in sorted(root.glob("bench/results/*/report.md")):
            path = report.relative_to(root).as_posix()
            source[0] += f"\n```{{include}} ../{path}\n:heading-offset: 1\n:relative-images:\n```\n"


def setup(app) -> None:
    app.connect("source-read", include_reports)
