"""The documentation: `python -m sphinx -W -b html docs pages` (extra `docs`). Nothing is fetched from the web."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ["MATPLOTLIBRC"] = str(HERE / "matplotlibrc")  # for the kernels that run the pages

import tinygrad_dl  # noqa: E402

project = "tinygrad_dl"
version = release = tinygrad_dl.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "reference", "streams"]
exclude_patterns = ["_ext"]

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True
nb_merge_streams = True
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
add_module_names = False
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "tinygrad_dl"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
