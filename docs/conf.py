"""How `make docs` builds the pages of this folder; see docs/decisions/0032-documentation-site.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.nodes import get_node_source

import cls

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "CLS"
author = "the authors of CLS"
project_copyright = author
version = release = cls.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["notebook.ipynb"]
myst_heading_anchors = 4

# Docstrings write code in single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
toc_object_entries = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "CLS"
html_static_path = ["_static"]
html_css_files, html_js_files = ["site.css"], ["site.js"]
html_theme_options = {"top_of_page_buttons": []}
html_show_sourcelink = html_copy_source = False


def _keep_texts_of_repository_links(app: Sphinx, document: nodes.document) -> None:
    """Makes links to folders, and to files of the repository that the site does not hold, plain text.

    Single files that are no pages, such as LICENSE, are copied into the site by Sphinx itself. Other links that lead
    nowhere stay, so that the build fails.
    """
    for node in list(document.findall(pending_xref)):
        target = node.get("reftarget", "")
        if node.get("reftype") != "myst" or target in app.env.found_docs:
            continue
        # An included file, such as CONTRIBUTING.md, names files from its own folder.
        page = app.env.doc2path(node["refdoc"])
        paths = [Path(file).parent / target.partition("#")[0] for file in (page, get_node_source(node) or page)]
        is_page_outside = node.get("refdomain") == "doc" and paths[0].with_name(f"{paths[0].name}.md").is_file()
        if is_page_outside or any(path.exists() for path in paths):
            node.replace_self(nodes.inline("", "", *[child.deepcopy() for child in node.children]))


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("doctree-read", _keep_texts_of_repository_links)
