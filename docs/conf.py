"""The site: `make docs`. Pages are Markdown, the API's come from docstrings, examples are run."""

import inspect
import re
from importlib import import_module
from typing import get_args

from sphinx.util.inspect import stringify_signature

import sklearn_metakan

project = "sklearn_metakan"
author = "The sklearn_metakan developers"
copyright = author
release = version = sklearn_metakan.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["README.md", "examples"]  # text, and sources
smartquotes = False  # "auto" is a string
nitpicky = True  # but for other packages' objects: their sites would be asked over the network
nitpick_ignore_regex = [(r"py:.*", r"(?!sklearn_metakan\b).*")]

# Pages
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# Docstrings: "Shape" is a section of ours, which numpydoc would leave out.
napoleon_google_docstring = False
napoleon_custom_sections = ["Shape", ("Attributes", "params_style")]
napoleon_use_param = napoleon_use_rtype = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"

# Objects: what the public rooms export. Classes and functions have a page each, names and
# choices stand on the page of their room.
ROOMS = [
    "sklearn_metakan",
    "sklearn_metakan.pde",
    "sklearn_metakan.pde.problems",
    "sklearn_metakan.inspection",
    "sklearn_metakan.symbolic",
    "sklearn_metakan.datasets",
    "sklearn_metakan.nn",
    "sklearn_metakan.basis",
    "sklearn_metakan.ops",
]
EXPORTS = {
    room: {n: getattr(import_module(room), n) for n in import_module(room).__all__}
    for room in ROOMS
}
OBJECTS = {
    room: [n for n, each in names.items() if inspect.isroutine(each) or inspect.isclass(each)]
    for room, names in EXPORTS.items()
}
CHOICES = {
    room: {
        n: [*(get_args(each) or each)]
        for n, each in names.items()
        if n not in OBJECTS[room] and not inspect.ismodule(each)
    }
    for room, names in EXPORTS.items()
}
autosummary_context = {"objects": OBJECTS, "choices": CHOICES}

# Examples
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("sklearn_metakan",),
    "backreferences_dir": "reference/backreferences",
    "reference_url": {"sklearn_metakan": None},
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "matplotlib_animations": False,
}

# Pages look like
html_theme = "pydata_sphinx_theme"
html_title = "sklearn_metakan"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "sklearn_metakan"},
    "navbar_align": "left",
    "show_prev_next": True,
    "show_toc_level": 2,
    "show_nav_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}


def lead_to_the_site(app, docname, content):
    """Links of the repository become links of the site: files of examples, sources of objects."""
    text = re.sub(r"\]\([./]*examples/\)", "](/gallery/index.rst)", content[0])
    text = re.sub(r"\]\([./]*examples/(\w+)\.py\)", r"](/gallery/\1.rst)", text)
    if docname == "reference/README":
        opening, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
        text = opening + "".join(map(to_objects, sections))
    content[0] = text


def to_objects(section):
    """In a section of the reference, links to a source become those to the page of the object."""
    room = section.split("`")[1] if section.startswith("## `") else "sklearn_metakan"
    return re.sub(r"\[`(\w+)`\]\(\S+\)", rf"{{py:obj}}`\1 <{room}.\1>`", section)


def with_references(app, what, name, obj, options, lines):
    """A paragraph "Source: ..." becomes a section, before napoleon reads the sections."""
    text = re.sub(r"^Source: ", "References\n----------\n", "\n".join(lines), flags=re.MULTILINE)
    lines[:] = text.split("\n")


def whole_signature(app, what, name, obj, options, signature, returned):
    """Of estimators too, whose ``__new__`` looks for misspelt parameters."""
    if what == "class" and callable(obj) and signature and "*" in signature:
        return stringify_signature(inspect.signature(obj), show_annotation=False), returned
    return None


def ours_alone(app, what, name, obj, skip, options):
    """Of inherited members those that are written here; of attributes those with a docstring."""
    found = inspect.unwrap(obj.fget if isinstance(obj, property) else obj)
    module = getattr(found, "__module__", None) or ""
    return skip or (callable(found) and not module.startswith("sklearn_metakan"))


def setup(app):
    app.connect("source-read", lead_to_the_site)
    app.connect("autodoc-process-docstring", with_references, priority=100)
    app.connect("autodoc-process-signature", whole_signature)
    app.connect("autodoc-skip-member", ours_alone)
