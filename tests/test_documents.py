"""What the documents say: code prints what they say, numbers are those of the results, notebooks are their scripts."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "```python" in p.read_text())]
LONG_PAGES = ("extending", "pulse", "sample")
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.stem, marks=[pytest.mark.long] if p.stem in LONG_PAGES else []) for p in PAGES]
)
def test_the_code_of_a_page_prints_what_the_page_says(page):
    names, printed = {}, io.StringIO()
    for kind, block in re.findall(r"```(python|text)\n(.*?)```", page.read_text(), flags=re.DOTALL):
        if kind == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(block, str(page), "exec"), names)
        else:
            assert printed.getvalue() == block
            printed = io.StringIO()


def test_numbers_are_those_of_the_results():
    run = subprocess.run([sys.executable, ROOT / "benchmarks/report.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("page", sorted(p for f in ("*.md", "docs/**/*.md", "tests/**/*.md", "benchmarks/*.md",
    "notebooks/*.md") for p in ROOT.glob(f)), ids=lambda page: page.relative_to(ROOT).as_posix())  # fmt: skip
def test_files_that_a_page_names_exist(page):
    """Every `name.py`, `folder/name.md` and [text](link) is a file, seen from the page, the root or a main folder."""
    text = page.read_text()
    named = re.findall(r"`([\w./-]+\.(?:py|md|ipynb|cff))(?:::\w+)?`", text)
    named += [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if "." in link]
    for name in named:
        places = (page.parent, ROOT, ROOT / "tests", ROOT / "nrjax", ROOT / "benchmarks")
        assert any((place / name).exists() for place in places), f"{name} does not exist"


def test_conventions_name_tests_that_exist():
    text = (ROOT / "docs/conventions.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 20
    for file, function in named:
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), f"{file}::{function}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebooks_are_their_scripts_and_were_executed(script):
    """The pair holds the same cells, every cell has run, and its outputs are small."""
    source = script.read_text().split("# ---\n", 2)[-1]
    cells = [cell.split("\n", 1) for cell in source.split("# %%")[1:]]
    expected = []
    for head, body in cells:
        text = body.strip("\n")
        if "[markdown]" in head:
            text = "\n".join(re.sub("^# ?", "", line) for line in text.splitlines())
        # Commands to the notebook stand as comments in its script.
        text = re.sub("^# %", "%", text, flags=re.MULTILINE)
        expected.append(text)
    notebook = script.with_suffix(".ipynb")
    content = json.loads(notebook.read_text())
    assert ["".join(cell["source"]).strip("\n") for cell in content["cells"]] == expected
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code) and notebook.stat().st_size < 1_000_000
    for output in (output for cell in code for output in cell["outputs"]):
        assert output["output_type"] != "error" and output.get("name") != "stderr"
        # A picture is there to be seen.
        shown = output.get("data", {})
        assert "image/png" in shown or not "".join(shown.get("text/plain", "")).startswith("<Figure")
