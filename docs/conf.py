"""Sphinx: python -m sphinx -n -W docs docs/_build."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature
from sphinx_gallery.sorting import ExplicitOrder

project = "mtattn"
author = "the mtattn authors"
copyright = "the mtattn authors"  # noqa: A001
version = release = installed_version("mtattn")

sys.path.insert(0, str(Path(__file__).parent))  # accessible, interactive, trained, gallery_figures
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
    "sphinx_gallery.gen_gallery",
    "accessible",
    "interactive.extension",
]
exclude_patterns = ["_build", "_cache", "gallery", "explanation/capabilities-table.md"]  # a table is part of a page
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "mtattn"
html_static_path = ["_static"]

autodoc_inherit_docstrings = False  # else nn.Module's docstring stands where ours is missing
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True  # else fields of a dataclass are listed twice
autodoc_default_options = {"members": True, "exclude-members": "extra_repr, train"}
python_maximum_signature_line_length = 90
add_module_names = False

# Names of other projects are not looked up: the site builds without network.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(torch|numpy|np|nn|PIL|jaxtyping|accelerate|matplotlib|torchmetrics|torchvision|safetensors)\b.*",
    ),
    ("py:.*", r"(Tensor|Module|Parameter|Optimizer|Dataset|Figure|Path|PathLike|Any|ndarray|Compose)"),
    ("py:.*", r"(.*\.AttributeImagesT|.*\.pretrained\.Model|'(task|attribute)'|.*\.session\.Prediction)"),
    ("py:.*", r"(collections|pathlib|os|typing|argparse|huggingface_hub|fastapi)\..*"),
]

# The gallery runs every docs/gallery/plot_*.py; an error in one fails the build.
GALLERY = ("exact_maps", "where_groups_look", "gates", "who_listens", "drop_in", "cost_of_groups", "rules")
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "image_scrapers": ("gallery_figures.scrape",),
    "image_srcset": ["2x"],
    "reset_modules": ("gallery_figures.reset",),
    "within_subsection_order": ExplicitOrder([f"plot_{name}.py" for name in GALLERY] + ["*"]),
    "remove_config_comments": True,
    "download_all_examples": False,
    "notebook_extensions": set(),
    "capture_repr": (),
    "show_signature": False,
    "write_computation_times": False,
}


def signature_of_init(_: Sphinx, what: str, name: str, obj: Any, *__: Any) -> tuple[str, str] | None:
    """Show the arguments of FARAMTN, which huggingface_hub's mixin hides behind a ``__new__`` that takes anything."""
    if what != "class" or not name.endswith("FARAMTN"):
        return None
    return stringify_signature(
        signature(obj.__init__, bound_method=True), unqualified_typehints=True, show_return_annotation=False
    ), ""


def train_before_the_gallery(app: Sphinx) -> None:
    """Train the shared model, so that no page's time has it in."""
    from trained import trained  # noqa: PLC0415

    if app.config.sphinx_gallery_conf["plot_gallery"]:  # -D plot_gallery=0 builds the site without running it
        trained()


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("builder-inited", train_before_the_gallery, priority=1)
    app.add_css_file("gallery.css")
