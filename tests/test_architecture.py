"""Imports point one way and through doors, files are of a readable size, a fit is short to read."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import sklearn_metakan
from benchmarks import walk
from sklearn_metakan import pde

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sklearn_metakan"
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
each_file = pytest.mark.parametrize("name", FILES)

# Which rooms each room may use; "public" is sklearn_metakan/__init__.py.
LAYERS = ["basis", "ops", "nn", "files", "training"]
MAY_IMPORT = {
    **{room: set(LAYERS[:i]) for i, room in enumerate(LAYERS)},
    "estimators": {*LAYERS},
    "pde": {*LAYERS},
    "inspection": {"estimators", "nn", "symbolic"},
    "symbolic": {"basis", "estimators", "nn"},
    "datasets": set(),
    "loading": {"files", "training", "estimators", "pde"},
    "public": {*LAYERS, "estimators", "pde", "loading"},
    "demo_pde": {"demo", "pde"},
    "demo": {*LAYERS, "estimators", "pde", "inspection", "datasets", "public"},
}
# Other packages, and the places that may import them: folders, or "" for all.
PLACES = {
    **dict.fromkeys(["numpy", "scipy", "sklearn", "torch"], ("",)),
    "cloudpickle": ("training/",),
    "joblib": ("training/", "estimators/"),
    "matplotlib": ("inspection/", "pde/plot/", "demo"),
    "meshio": ("pde/domains/",),
    "pandas": ("datasets/", "estimators/", "inspection/", "pde/", "symbolic/", "demo"),
    "pyarrow": ("estimators/inputs/",),
    "onnx": ("estimators/",),
    "onnxscript": ("estimators/",),
    "safetensors": ("files/",),
    "skorch": ("training/",),
    "sympy": ("symbolic/",),
    "threadpoolctl": ("training/",),
    "tqdm": ("training/", "pde/solve/", "demo"),
    "triton": ("ops/triton",),
}
LONGEST, SHORTEST = 600, 40  # lines of a file
# Files below the shortest, and why.
SHORT: dict[str, str] = {"estimators/predictor.py": "what to_torch gives, apart from fit"}
# As many as there are: what needs more raises the number, and says why in docs/lab/house.md.
MOST_LINES = {"sklearn_metakan": 36_369, "benchmarks": 7_685}
# From a call to the first sum over edges, as `python -m benchmarks.walk` counts: of the default,
# three layers and four members; one of each is what "auto" means for so many rows.
MOST_CALLS = {
    "fit": {"calls": 134, "files": 18, "switches": 51},
    "predict": {"calls": 23, "files": 8, "switches": 12},
}


def room_of(name):
    first = name.split("/")[0].removesuffix(".py")
    return "public" if first == "__init__" else first


def package_of(name):
    return ".".join(["sklearn_metakan", *name.split("/")[:-1]])


def imports(name, source):
    """Every import in a file's source, in whatever block: (module, name or None)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package_of(name))
            yield from ((module, alias.name) for alias in node.names)


def breaches(name, source):
    """What a file may not import, each with the rule."""
    room = room_of(name)
    if room not in MAY_IMPORT:
        return [f"the room {room} has no place"]
    found = []
    for module, taken in imports(name, source):
        text = module if taken is None else f"{module}: {taken}"
        top, *inner = module.split(".")
        if top != "sklearn_metakan":
            if top not in sys.stdlib_module_names and not name.startswith(PLACES.get(top, ())):
                found.append(f"{text} (not a package for this place)")
            continue
        if not inner and taken is not None and taken in MAY_IMPORT:
            inner, taken = [taken], None  # from sklearn_metakan import nn
        other = inner[0] if inner else "public"
        if other == room:
            continue
        if other not in MAY_IMPORT[room]:
            found.append(f"{text} ({room} does not use {other})")
        elif other != "public" and (
            len(inner) > 1 or taken not in import_module(f"sklearn_metakan.{other}").__all__
        ):
            found.append(f"{text} (not a name that {other} exports)")
    return found


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ops/blocked.py", "from sklearn_metakan.nn import KANLinear"),
        ("nn/layers.py", "import sklearn_metakan"),
        ("nn/layers.py", "from sklearn_metakan import KANRegressor"),
        ("nn/layers.py", "def f():\n    from ..training import Execution"),
        ("nn/layers.py", "from .. import demo"),
        ("pde/solve/solver.py", "from sklearn_metakan.estimators import KANRegressor"),
        ("nn/layers.py", "import sklearn_metakan.ops.blocked"),
        ("nn/layers.py", "import sklearn_metakan.ops as ops"),
        ("nn/layers.py", "from sklearn_metakan import ops"),
        ("nn/layers.py", "from sklearn_metakan.ops import blocked"),
        ("nn/layers.py", "from sklearn_metakan.ops.blocked import edge_sum"),
        ("nn/layers.py", "from ..ops.blocked import edge_sum"),
        ("nn/layers.py", "from sklearn_metakan.ops import _anything"),
        ("nn/layers.py", "from sklearn_metakan.ops import *"),
        ("rooms/new.py", "import torch"),
        ("nn/layers.py", "import skorch"),
        ("pde/solve/net.py", "from skorch.callbacks import Callback"),
        ("ops/blocked.py", "import triton.language as tl"),
        ("ops/blocked.py", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ("ops/blocked.py", "from benchmarks import walk"),
        ("demo.py", "import tests.conftest"),
        ("nn/layers.py", "import sympy"),
    ],
)
def test_a_breach_is_seen(name, line):
    assert breaches(name, line)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nn/layers.py", "import math, torch\nfrom collections.abc import Sequence"),
        ("nn/layers.py", "from sklearn_metakan.ops import edge_sum"),
        ("nn/layers.py", "from ..ops import edge_sum"),
        ("nn/layers.py", "from sklearn_metakan.nn.anything import _own\nfrom ._other import f"),
        ("training/net.py", "import skorch"),
        ("ops/triton/splines.py", "import triton.language as tl"),
        ("demo.py", "from sklearn_metakan import KANRegressor"),
        ("demo_pde.py", "from sklearn_metakan.pde import problems"),
        ("__init__.py", "from sklearn_metakan.estimators import KANRegressor"),
    ],
)
def test_what_is_allowed_is_no_breach(name, line):
    assert breaches(name, line) == []


@each_file
def test_imports_point_one_way_and_through_the_rooms_packages(name):
    assert breaches(name, FILES[name].read_text(encoding="utf-8")) == []


def modules():
    """File by module; of a package, its __init__.py."""
    parts = {name: ("sklearn_metakan", *name.removesuffix(".py").split("/")) for name in FILES}
    return {".".join(each).removesuffix(".__init__"): name for name, each in parts.items()}


def files_imported(name, source, by_module):
    """The package's files that a file imports by name."""
    for module, taken in imports(name, source):
        each = f"{module}.{taken}" if f"{module}.{taken}" in by_module else module
        if each in by_module:
            yield by_module[each]


def circle(graph):
    """One circle of a graph, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_a_circle_is_seen():
    by_module = {"sklearn_metakan.nn": "nn/__init__.py", "sklearn_metakan.nn.a": "nn/a.py"}
    sources = {
        "nn/__init__.py": "from sklearn_metakan.nn.a import f",
        "nn/a.py": "if TYPE_CHECKING:\n    from sklearn_metakan.nn import g",
    }
    graph = {name: {*files_imported(name, s, by_module)} for name, s in sources.items()}
    assert set(circle(graph)) == {"nn/__init__.py", "nn/a.py"}
    sources["nn/a.py"] = "def f():\n    from . import a"
    graph = {name: {*files_imported(name, s, by_module)} for name, s in sources.items()}
    assert "nn/a.py" in circle(graph)


def test_imports_make_no_circle():
    """Also not with those for types alone, or inside functions."""
    by_module = modules()
    graph = {
        name: {*files_imported(name, path.read_text(encoding="utf-8"), by_module)}
        for name, path in FILES.items()
    }
    assert circle(graph) == []


def n_lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


@each_file
def test_a_file_is_not_too_long(name):
    assert n_lines(FILES[name]) <= LONGEST


def test_short_files_have_a_reason():
    inits = {name for name in FILES if name.endswith("__init__.py")}
    short = {name for name in FILES if n_lines(FILES[name]) < SHORTEST} - inits
    assert short == SHORT.keys()
    assert all(SHORT.values())


@pytest.mark.parametrize("folder", MOST_LINES)
def test_there_is_no_more_code_than_that(folder):
    assert sum(map(n_lines, (ROOT / folder).rglob("*.py"))) <= MOST_LINES[folder]


@pytest.mark.parametrize("folder", MOST_LINES)
def test_file_names_have_no_leading_underscore(folder):
    allowed = {"__init__.py", "__main__.py"}
    names = {path.name for path in (ROOT / folder).rglob("*.py")} - allowed
    assert [name for name in sorted(names) if name.startswith("_")] == []


ESTIMATORS = [
    each
    for module in (sklearn_metakan, pde)
    for each in map(vars(module).get, module.__all__)
    if isinstance(each, type) and issubclass(each, BaseEstimator)
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimator_has_one_class_of_ours_above_it(estimator):
    ours = [each for each in estimator.__mro__ if each.__module__.startswith("sklearn_metakan")]
    assert len(ours) <= 2


def test_every_estimator_is_looked_at():
    names = {each.__name__ for each in ESTIMATORS}
    assert names >= {"KANRegressor", "MetaKANImageClassifier", "KANPDESolver", "MetaKANPDESolver"}
    assert len(names) >= 8


@pytest.fixture(scope="module")
def walks():
    return walk.walks()


@pytest.mark.parametrize("way", MOST_CALLS)
def test_the_way_to_the_first_sum_over_edges_is_short(walks, way):
    counts, most = walk.count(walks[way]), MOST_CALLS[way]
    assert {name: counts[name] for name in most if counts[name] > most[name]} == {}


def test_import_takes_little_beyond_torch_and_sklearn():
    """In seconds of the processor, in one process; it is a tenth of what these two take."""
    code = (
        "import time, torch, sklearn; before = time.process_time(); import sklearn_metakan; "
        "print((time.process_time() - before) / before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 0.5


def test_import_is_light():
    """Without what fitting does not need; nothing is drawn, compiled or simplified."""
    heavy = ["matplotlib", "sympy", "triton", "torch._dynamo", "tqdm.notebook", "onnx", "polars"]
    code = f"import sys, sklearn_metakan; print([n for n in {heavy} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")
