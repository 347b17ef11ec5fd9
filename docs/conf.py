"""The documentation site: `python -m sphinx -W -c docs . build/site` in the root of the repository.

The root is the source folder, so that a relative link is the same on the site and where the repository is shown.
"""

import os
import posixpath
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

from intel_scenes import __version__

ROOT = Path(__file__).parent.parent

project = "intel_scenes"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    *("docs/*.md", "docs/*.ipynb", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("results/*.md", "results/*/*.md", "benchmarks/*.md", "examples/*.md"),
]
exclude_patterns = ["**/.*", ".venv*"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Nothing is loaded from elsewhere: the site is read without a network.
html_theme = "furo"
html_title = f"intel_scenes {release}"
html_extra_path = ["site"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = html_show_sphinx = html_copy_source = False

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
    """Point links to the README to the first page, and replace links to files that are no page by their text."""

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))
        if path == "README.md":
            first_page = posixpath.relpath(f"{root_doc}.md", posixpath.dirname(page) or ".")
            return f"[{match[1]}]({first_page}{match[3] or ''})"
        is_elsewhere = (ROOT / path).exists() and app.project.path2doc(path) not in app.project.docnames
        return match[1] if is_elsewhere else match[0]

    if app.env.doc2path(page).suffix != ".ipynb":
        source[0] = LINK.sub(link, source[0])


def setup(app: Sphinx) -> None:
    """Connect the function above; Sphinx calls this."""
    app.connect("source-read", with_links_of_the_site)
