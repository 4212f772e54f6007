"""Every public object says what its parameters are; every public room has its pages."""

import inspect
import pydoc
import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CONF = (DOCS / "conf.py").read_text(encoding="utf-8")
ROOMS = re.findall(r'"([\w.]+)"', re.search(r"^ROOMS = \[(.*?)^\]", CONF, re.M | re.S)[1])
OBJECTS = {
    f"{room}.{name}": found
    for room in ROOMS
    for name in import_module(room).__all__
    if inspect.isclass(found := getattr(import_module(room), name)) or inspect.isfunction(found)
}
# Modules have their shapes in the docstring of the class, problems in that of Problem.
CALLED = re.compile(
    r"sklearn_metakan\.((pde|inspection|symbolic|datasets)\.)?(problems\.Problem|\w+)$"
)
METHODS = {
    f"{name}.{each}": (method, found)
    for name, found in OBJECTS.items()
    if inspect.isclass(found) and CALLED.match(name)
    for each, method in inspect.getmembers(found, inspect.isfunction)
    if not each.startswith("_") and method.__module__.startswith("sklearn_metakan")
}


def parameters(function):
    """By name; without those that a base class of another package takes."""
    return {
        name
        for name, each in inspect.signature(function).parameters.items()
        if name not in ("self", "args", "kwargs")
    }


def described(docstring, *sections):
    """The names in front of " : " in these sections."""
    found = set()
    for section in sections:
        body = re.search(rf"^{section}\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", docstring, re.M | re.S)
        entries = re.findall(r"^(\*{0,2}\w[\w, *]*?)(?: : .*)?$", body[1] if body else "", re.M)
        found |= {name.strip(" *") for entry in entries for name in entry.split(",")}
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_every_parameter_of_an_object_is_described(name):
    docstring = inspect.getdoc(OBJECTS[name])
    if "Parameters and errors are those of ``KANConv2d``" in docstring:
        docstring = inspect.getdoc(OBJECTS["sklearn_metakan.nn.KANConv2d"])
    assert parameters(OBJECTS[name]) <= described(docstring, "Parameters", "Attributes")


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_a_method_is_named(name):
    method, owner = METHODS[name]
    own = inspect.getdoc(method)
    assert own
    assert parameters(method) <= {*re.findall(r"\w+", f"{own} {inspect.getdoc(owner)}")}


@pytest.mark.parametrize("name", OBJECTS)
def test_help_shows_types_as_they_are_written(name):
    assert "numpy._typing" not in pydoc.render_doc(OBJECTS[name])


def test_names_are_seen():
    text = (
        "One.\n\nParameters\n----------\na, b : int\n    Two.\n**c : dict\n\nRaises\n------\nError"
    )
    assert described(text, "Parameters") == {"a", "b", "c"}


def test_the_site_has_every_room_of_the_reference():
    page = (DOCS / "reference" / "README.md").read_text(encoding="utf-8")
    listed = {*re.findall(r"^## `(\S+)`$", page, re.M)}
    pages = (DOCS / "reference" / "api.rst").read_text(encoding="utf-8")
    assert listed | {"sklearn_metakan.pde.problems"} == {*ROOMS}
    assert re.findall(r"^   (sklearn_metakan\S*)$", pages, re.M) == ROOMS
