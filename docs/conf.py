"""Sphinx: python -m sphinx -n -W docs docs/_build."""

from importlib.metadata import version as installed_version

project = "mtattn"
author = "the mtattn authors"
copyright = "the mtattn authors"  # noqa: A001
version = release = installed_version("mtattn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build", "explanation/capabilities-table.md"]  # the table is a part of another page
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "mtattn"

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
    ("py:.*", r"(.*\.AttributeImagesT|'task')"),
    ("py:.*", r"(collections|pathlib|os|typing|argparse|huggingface_hub)\..*"),
]
