"""Imports point one way, files stay short, and importing the package stays light."""

import ast
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sklearn_metakan"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
each_file = pytest.mark.parametrize("path", FILES, ids=NAMES)

# Which rooms each room may use, DESIGN section 3; "public" is sklearn_metakan/__init__.py.
LAYERS = ["basis", "ops", "nn", "training"]
MAY_IMPORT = {
    **{room: set(LAYERS[:i]) for i, room in enumerate(LAYERS)},
    "estimators": {*LAYERS},
    "pde": {*LAYERS},
    "inspection": {"estimators", "nn"},
    "datasets": set(),
    "public": {*LAYERS, "estimators", "pde"},
    "demo_pde": {"pde"},
    "demo": {*LAYERS, "estimators", "pde", "inspection", "datasets", "public"},
}
# Packages that one place alone may import.
ONLY_IN = {"triton": "ops/triton/", "skorch": "training/"}


def room_of(path):
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "public" if first == "__init__" else first


def imported_modules(source, package):
    """Every module that a file names in an import, with the names taken from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield module, [alias.name for alias in node.names]


def imported_rooms(source, package):
    """The rooms of sklearn_metakan that a file imports from."""
    for module, names in imported_modules(source, package):
        top, *inner = module.split(".")
        if top != "sklearn_metakan":
            continue
        if inner:
            yield inner[0]
        else:
            yield from (name if name in MAY_IMPORT else "public" for name in names or ["public"])


def package_of(path):
    return ".".join(path.relative_to(ROOT).parent.parts)


@pytest.mark.parametrize(
    ("line", "rooms"),
    [
        ("import torch", []),
        ("import sklearn_metakan", ["public"]),
        ("import sklearn_metakan.nn._linear as linear", ["nn"]),
        ("from sklearn_metakan import KANRegressor, basis", ["public", "basis"]),
        ("from sklearn_metakan.ops import edge_sum", ["ops"]),
        ("def f():\n    from ..training import store", ["training"]),
        ("from ._linear import KANLinear", ["nn"]),
        ("from .. import demo", ["demo"]),
    ],
)
def test_the_walk_sees_every_form_of_import(line, rooms):
    assert list(imported_rooms(line, "sklearn_metakan.nn")) == rooms


@each_file
def test_imports_point_one_way(path):
    room = room_of(path)
    assert room in MAY_IMPORT, f"{room} has no place in DESIGN section 3"
    rooms = {*imported_rooms(path.read_text(encoding="utf-8"), package_of(path))}
    assert rooms <= MAY_IMPORT[room] | {room}


@each_file
def test_nobody_imports_benchmarks_docs_or_tests(path):
    modules = imported_modules(path.read_text(encoding="utf-8"), package_of(path))
    assert {"benchmarks", "docs", "tests"}.isdisjoint(name.split(".")[0] for name, _ in modules)


@each_file
def test_packages_with_one_place_are_imported_there_alone(path):
    modules = imported_modules(path.read_text(encoding="utf-8"), package_of(path))
    for name, _ in modules:
        place = ONLY_IN.get(name.split(".")[0], "")
        assert str(path.relative_to(PACKAGE)).startswith(place)


@each_file
def test_a_file_stays_short(path):
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= 350


def test_import_is_light():
    """Without what fitting does not need; nothing is drawn, compiled or simplified."""
    heavy = ["matplotlib", "sympy", "triton", "torch._dynamo", "tqdm.notebook"]
    code = f"import sys, sklearn_metakan; print([n for n in {heavy} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")
