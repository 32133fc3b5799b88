"""How `make docs` builds the pages of this folder; see docs/decisions/0031-documentation.md."""

import cls

project = "CLS"
author = "the authors of CLS"
version = release = cls.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["notebook.ipynb"]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "CLS"
html_static_path: list[str] = []
html_show_sourcelink = html_copy_source = False
# Links within the repository but outside of the pages lead to files, which the site does not hold.
suppress_warnings = ["myst.xref_missing"]
