"""The reference names every public object, parameter and attribute, where it is."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import sklearn_metakan
from sklearn_metakan import pde
from sklearn_metakan.pde import problems

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\S+)`\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE))
OBJECTS = [
    (module, name, link)
    for module, section in SECTIONS.items()
    for name, link in re.findall(r"\[`(\w+)`\]\((\S+?)\)", section)
]


def test_objects_are_where_the_links_say_and_have_docstrings():
    astray = {}
    for module, name, link in OBJECTS:
        found = inspect.unwrap(getattr(import_module(module), name))
        source, linked = Path(inspect.getsourcefile(found)), (FOLDER / link).resolve()
        if source != linked and linked not in source.parents:
            astray[name] = str(source)
        assert inspect.getdoc(found), name
    assert not astray


def test_every_object_of_the_public_rooms_is_named():
    named = {(module, name) for module, name, _ in OBJECTS}
    for module in (
        "sklearn_metakan",
        "sklearn_metakan.inspection",
        "sklearn_metakan.symbolic",
        "sklearn_metakan.basis",
    ):
        for name in import_module(module).__all__:
            what = getattr(import_module(module), name)
            is_object = inspect.isclass(what) or inspect.isfunction(what)
            assert not is_object or (module, name) in named


@pytest.mark.parametrize(
    "estimator",
    [getattr(sklearn_metakan, name) for name in sklearn_metakan.__all__ if "KAN" in name]
    + [pde.KANPDESolver, pde.MetaKANPDESolver],
)
def test_every_parameter_has_its_group(estimator):
    groups = PAGE.partition("## Parameters")[2].partition("## Fitted attributes")[0]
    assert {*inspect.signature(estimator).parameters} <= {*re.findall(r"`(\w+)`", groups)}


def test_attributes_are_those_of_fitted_estimators():
    stated = PAGE.partition("## Fitted attributes")[2].partition("## Errors")[0]
    stated = {*re.findall(r"`(\w+_)`", stated)}
    X, y = [[0.0], [1.0], [2.0]], [0, 1, 1]
    fitted = [
        getattr(sklearn_metakan, name)(max_iter=1).fit(X, y)
        for name in ("KANRegressor", "KANClassifier")
    ]
    fitted.append(sklearn_metakan.KANClassifier(max_iter=1).fit(X, [[0, 1], [1, 1], [1, 0]]))
    solver = pde.KANPDESolver(
        **problems.Helmholtz().settings, n_interior=4, hidden_layer_sizes=(), max_iter=1
    ).fit()
    missing = {
        name for name in stated if not any(hasattr(each, name) for each in [*fitted, solver])
    }
    parts = {"windows_", "modes_", "eigenvalues_"}
    assert missing == {"feature_names_in_", "image_shape_"} | parts  # frames, images
