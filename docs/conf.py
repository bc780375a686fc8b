"""The documentation site: ``make docs`` writes it to build/docs."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import deformwarp

project = "deformwarp"
author = "the deformwarp authors"
release = version = deformwarp.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"deformwarp {version}"
exclude_patterns = ["images", "experiments/*/findings.md"]  # the findings are part of experiments.md
# Every cross-reference must lead somewhere; what is not ours leads to no inventory, which would need a network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|nn|numpy|collections|pathlib|optional|Path|Tensor|Any|IntOrPair|_\w+).*"),
    ("py:class", r"J|\d"),  # of shapes in front of a colon
]

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]  # GitHub's form of a formula
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures and docstrings have them
napoleon_use_ivar = True


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def _offer_pages_of_the_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """A link to Markdown outside this folder would be one to a page of the site, which it is not."""
    link = re.compile(r"\[([^\]]+)\]\((\.\./[^)]+\.md)\)")
    source[0] = link.sub(lambda found: f"{{download}}`{found[1].replace('`', '')} <{found[2]}>`", source[0])


def setup(app: Sphinx) -> None:
    """Formulas become MathML, which browsers draw by themselves: no script, no network."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("source-read", _offer_pages_of_the_repository)


html_math_renderer = "mathml"
