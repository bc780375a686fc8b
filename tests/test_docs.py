"""The documentation: its examples run, and the site is built from it without a warning."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {page.name: EXAMPLE.findall(page.read_text()) for page in sorted(DOCS.glob("*.md"))}


@pytest.mark.parametrize("page", [name for name, examples in PAGES.items() if examples])
def test_examples_of_a_page_run(page: str) -> None:
    """All of a page's examples, one after another."""
    test = doctest.DocTestParser().get_doctest("\n".join(PAGES[page]), {}, page, page, 0)
    said: list[str] = []
    results = doctest.DocTestRunner().run(test, out=said.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(said)


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    for extension in ("sphinx", "myst_parser", "furo", "latex2mathml"):
        pytest.importorskip(extension)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--fresh-env", str(DOCS), str(tmp_path)]
    built = subprocess.run(command, text=True, capture_output=True, check=False, timeout=600)
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "api.html").read_text()
    assert 'id="deformwarp.fused_deform_warp"' in reference
    assert "<math" in (tmp_path / "mathematics.html").read_text()
