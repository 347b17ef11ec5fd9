"""The documentation site: `python -m sphinx -W -c docs . build/site` in the root of the repository.

The root is the source folder, so that a relative link is the same on the site and where the repository is shown.
"""

import os
import posixpath
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from intel_scenes import __version__

ROOT = Path(__file__).parent.parent

project = "intel_scenes"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    *("docs/*.md", "docs/*.ipynb", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("results/*.md", "results/*/*.md", "benchmarks/*.md"),
]
exclude_patterns = ["**/.*", ".venv*"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Nothing is loaded from elsewhere: the site is read without a network. Formulas are MathML, which browsers show by
# themselves.
html_theme = "furo"
html_title = f"intel_scenes {release}"
html_extra_path = ["site"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_copyright = html_show_sphinx = html_copy_source = False

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

# The notebook is run while the site is built, and an error ends the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_type_aliases = {"Images": "Images", "Views": "Views"}
python_use_unqualified_type_names = True
default_role = "code"  # a docstring has its code between single backticks

# The notebook starts `intel-scenes`, which lies beside this Python and need not be on the path.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")


def with_links_of_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Links the README to the first page, and leaves of a link to what is no page its text alone."""

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))
        if path == "README.md":
            first_page = posixpath.relpath(f"{root_doc}.md", posixpath.dirname(page) or ".")
            return f"[{match[1]}]({first_page}{match[3] or ''})"
        is_elsewhere = (ROOT / path).exists() and app.project.path2doc(path) not in app.project.docnames
        return match[1] if is_elsewhere else match[0]

    if app.env.doc2path(page).suffix != ".ipynb":
        source[0] = LINK.sub(link, source[0])


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Writes a formula in a line."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Writes a formula of its own."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Adds what Sphinx does not have."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("source-read", with_links_of_the_site)
