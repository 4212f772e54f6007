"""save and load: what comes back predicts the same to the last bit and trains on."""

import importlib.metadata
import json
import os
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.exceptions import NotFittedError
from skorch.callbacks import EpochTimer
from small_models import FIXTURES, NAMES, SHORT, SOLVER, X, Y, each_class, made, outputs, residual

import sklearn_metakan
from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANRegressor,
    files,
    load,
    pde,
)

SMALL = {**SHORT, "hidden_layer_sizes": (3,), "n_estimators": 1}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def assert_same(one, other):
    assert type(one) is type(other)
    assert one.get_params() == other.get_params()
    assert vars(one).keys() - {"callbacks_"} == vars(other).keys()
    for name in ("loss_curve_", "n_iter_", "n_parameters_", "n_features_in_"):
        assert getattr(one, name) == getattr(other, name)
    assert one.net_.execution_ == other.net_.execution_
    assert one.net_.history.to_list() == [
        {**row, "batches": mine["batches"]}
        for row, mine in zip(other.net_.history.to_list(), one.net_.history.to_list(), strict=True)
    ]
    for a, b in zip(one.net_.module_.parameters(), other.net_.module_.parameters(), strict=True):
        assert torch.equal(a, b)


@each_class
def test_all_of_a_fitted_estimator_comes_back(name, path):
    model, points, functions = made(name)
    model.save(path)
    loaded = load(path, **functions)
    assert_same(model, loaded)
    np.testing.assert_array_equal(outputs(loaded, points), outputs(model, points))
    loaded.save(path)
    again = load(path, **functions)
    assert_same(model, again)


@each_class
def test_training_goes_on_as_after_a_pickle(name, path):
    model, points, functions = made(name)
    model.set_params(warm_start=True).save(path)
    pair = load(path, **functions), pickle.loads(pickle.dumps(model))
    data = () if "PDE" in name else (points, model.predict(points))
    for each in pair:
        if data:
            each.partial_fit(*data)
        each.fit(*data)
    np.testing.assert_array_equal(*(outputs(each, points) for each in pair))
    assert (outputs(pair[0], points) != outputs(model, points)).any()


@each_class
def test_what_was_not_fitted_is_not(name, path):
    functions = {"residual": residual} if "PDE" in name else {}
    kind = getattr(sklearn_metakan, name, None) or getattr(pde, name)
    kind(**functions).set_params(grid_size=7).save(path)
    loaded = load(path, **functions)
    assert loaded.get_params() == kind(**functions, grid_size=7).get_params()
    with pytest.raises(NotFittedError):
        loaded.predict([[0.0]])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "bcd", "ä\0"]),
        np.array([1, 2**60, -3]),
        np.array([False, True]),
        np.array(["x", "y"], dtype=object),
        np.array([0.5, 1.5]).round().astype(np.float32),
        np.array([3, 7], dtype=np.uint8),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_of_every_kind(labels, path):
    y = labels[np.arange(len(X)) % len(labels)]
    model = KANClassifier(**SMALL, class_weight={labels[0]: 2.0}).fit(X, y)
    model.save(path)
    loaded = load(path)
    assert loaded.predict(X).dtype == model.predict(X).dtype
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
    assert loaded.class_weight == model.class_weight


def test_names_of_columns_and_dtypes(path):
    table = pd.DataFrame(X.astype(np.float32), columns=["a", "ü"])
    model = KANRegressor(**SMALL, device=torch.device("cpu")).fit(table, np.c_[Y, Y**2])
    model.save(path)
    loaded = load(path)
    assert list(loaded.feature_names_in_) == ["a", "ü"]
    assert loaded.predict(table).dtype == np.float32
    assert loaded.device == torch.device("cpu")
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(table.rename(columns={"a": "c"}))


def test_parameters_that_mean_nothing_are_kept(path):
    model = KANRegressor(**SMALL).fit(X, Y).set_params(solver="?", hidden_layer_sizes=[1, "x"])
    model.save(path)
    assert load(path).get_params() == model.get_params()
    np.testing.assert_array_equal(load(path).predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"callbacks": [EpochTimer()]}, r"callbacks\[0\].*set_params\(callbacks=None\)"),
        ({"random_state": np.random.RandomState(0)}, r"random_state.*set_params\(random_state=0\)"),
        ({"net_params": {"f": {"g": print}}}, r"net_params\.f\.g is the function 'print'.*pickle"),
    ],
)
def test_what_cannot_be_stored_is_named(setting, named, path):
    with pytest.raises(ValueError, match=named):
        KANRegressor(**setting).save(path)
    assert not path.exists()


def test_classes_of_users_are_refused(path):
    class Mine(KANRegressor):
        pass

    with pytest.raises(ValueError, match="Mine is another class"):
        Mine().save(path)


def mirrored(images):
    return images.flip(-1)


def test_a_function_of_images_is_given_again(path):
    images = X[:24, :1] * np.linspace(-1, 1, 16)
    model = KANImageClassifier((3,), **SHORT, augment=mirrored).fit(images, Y[:24] > 0)
    model.save(path)
    with pytest.raises(ValueError, match=r"augment of it .*augment=\.\.\."):
        load(path)
    loaded = load(path, augment=mirrored)
    assert loaded.augment is mirrored
    np.testing.assert_array_equal(
        *(
            each.set_params(warm_start=True).fit(images, Y[:24] > 0).predict_proba(images)
            for each in (model, loaded)
        )
    )


def start(x):
    return x[:, 0]


def drawn(n, generator):
    return torch.rand(n, 1, generator=generator, dtype=torch.float64)


def constrained(x, net):
    return x[:, 0] * net


def with_constant(x, u, a):
    return u.d(0, 0) + a


def test_functions_of_an_equation_are_given_again(path):
    functions = {
        "residual": with_constant,
        "domain": drawn,
        "conditions": [pde.Dirichlet(0.0), pde.Dirichlet(start, name="start")],
        "ansatz": constrained,
    }
    solver = pde.KANPDESolver(
        **functions, boundary=[[0.0], [1.0]], pde_params={"a": 1.0}, **SOLVER, warm_start=True
    ).fit([[0.25]], [1.0])
    solver.save(path)
    with pytest.raises(ValueError, match="residual, domain, conditions, ansatz of it"):
        load(path)
    with pytest.raises(ValueError, match=r"load\(.*ansatz=\.\.\."):
        load(path, residual=with_constant)
    loaded = load(path, **functions)
    points = np.linspace(0, 1, 5)[:, None]
    np.testing.assert_array_equal(loaded.predict(points), solver.predict(points))
    np.testing.assert_array_equal(loaded.predict_residual(points), solver.predict_residual(points))
    assert loaded.score() == solver.score()
    assert loaded.pde_params_ == solver.pde_params_
    one, other = (each.fit([[0.25]], [1.0]).predict(points) for each in (loaded, solver))
    np.testing.assert_array_equal(one, other)


def test_functions_without_a_name(path):
    images = X[:24, :1] * np.linspace(-1, 1, 16)
    turned = lambda images: images.flip(-1)  # noqa: E731
    model = KANImageClassifier((3,), **SHORT, augment=turned).fit(images, Y[:24] > 0)
    model.save(path)
    loaded = load(path, augment=turned)
    np.testing.assert_array_equal(loaded.predict_proba(images), model.predict_proba(images))


@pytest.mark.parametrize(
    "domain",
    [
        pde.Box([0, 0], [1, 2]) - pde.Ball([0.5, 0.5], 0.2),
        pde.SpaceTime(pde.Interval(0, 1), 0, 2),
        pde.Ball([0, 0]) | pde.Ball([1, 0]),
        np.random.default_rng(0).normal(size=(30, 2)),
    ],
    ids=["difference", "time", "union", "points"],
)
def test_domains_are_stored(domain, path):
    conditions = [pde.Dirichlet(0.0)] if isinstance(domain, pde.Domain) else []
    settings = SOLVER | {"sampling": "uniform"}
    solver = pde.MetaKANPDESolver(
        residual, domain=domain, conditions=conditions, ansatz=constrained, **settings
    ).fit()
    solver.save(path)
    loaded = load(path, residual=residual, ansatz=constrained)
    assert loaded.score() == solver.score()
    assert loaded.domain_ == solver.domain_


def test_a_domain_given_to_fit_alone_is_refused_where_it_is_a_function(path):
    solver = pde.KANPDESolver(residual, ansatz=constrained, **SOLVER).fit(drawn)
    with pytest.raises(ValueError, match=r"_problem.*drawn.*pass it to KANPDESolver"):
        solver.save(path)


def test_functions_that_are_not_asked_for(path):
    KANRegressor().save(path)
    with pytest.raises(ValueError, match="residual"):
        load(path, residual=residual)


def test_devices(path):
    model = KANRegressor(**SMALL).fit(X, Y)
    state = model.__getstate__()
    state["_net"]["execution"]["device"] = "cuda:7"
    codec = files.Codec(KANRegressor._stored_types)
    tree = {name: codec.encode(value, name) for name, value in state.items()}
    files.write(path, {"class": "KANRegressor", "given": [], "state": tree}, codec.arrays)
    loaded = load(path)
    assert loaded.device == "auto"
    if not torch.cuda.is_available():
        assert loaded.net_.execution_.device == torch.device("cpu")
    loaded = load(path, device="cpu")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.device == "cpu"
    with pytest.raises(ValueError, match="device='nowhere' is not available"):
        load(path, device="nowhere")


def changed(path, change):
    """The same file with another header, whose checksums are right."""
    opened = files.read(path)
    header = json.loads(json.dumps(opened.header))
    change(header)
    del header["format"]
    arrays = {name: opened.take(name) for name in [*opened._left]}
    files.write(path, header, arrays)


def set_at(*keys, value):
    def change(header):
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


NETWORK = ("state", "_network", "dict")
CHANGES = {
    "unknown class": (set_at("class", value="Popen"), "no class 'Popen'"),
    "no class": (set_at("class", value=["KANRegressor"]), "no class"),
    "another class": (set_at("class", value="KANImageClassifier"), "damaged"),
    "no state": (set_at("state", value=[]), "no state"),
    "given": (set_at("given", value=["n_estimators"]), "stores its 'n_estimators'"),
    "method": (set_at("state", "predict", value=1), "stores no 'predict'"),
    "property": (set_at("state", "module_", value=1), "stores no 'module_'"),
    "of pickles": (set_at("state", "_by_value", value={"dict": {"predict": 1}}), "no '_by_value'"),
    "unknown": (set_at("state", "fancy", value=1), "has no 'fancy'"),
    "wider": (set_at(*NETWORK, "layer_sizes", value=[2, 10**6, 1]), "shape and dtype"),
    "far wider": (set_at(*NETWORK, "layer_sizes", value=[10**9, 10**9, 1]), "damaged"),
    "thousands deep": (set_at(*NETWORK, "layer_sizes", value=[1] * 20_000), "fewer layers"),
    "deeper": (set_at(*NETWORK, "layer_sizes", value=[2, 3, 3, 1]), "differ in"),
    "more members": (set_at(*NETWORK, "n_members", value=10**6), "shape and dtype"),
    "finer": (set_at(*NETWORK, "grid_size", value=10**12), "grid_size"),
    "degree": (set_at(*NETWORK, "degree", value=10**6), "degree"),
    "basis": (set_at(*NETWORK, "basis", value="rbf"), "differ in"),
    "setting": (set_at(*NETWORK, "code", value="print()"), "unexpected keyword"),
    "dtype": (set_at(*NETWORK, "dtype", value="torch.load"), "torch.load"),
    "device": (
        set_at("state", "_net", "dict", "execution", "dict", "dtype", value="torch.load"),
        "damaged",
    ),
    "array elsewhere": (
        set_at("state", "input_scaler_", "object", 1, "dict", "kept_", value=None),
        "damaged",
    ),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_contradictions_under_right_checksums(change, reason, path):
    KANRegressor(**SMALL).fit(X, Y).save(path)
    changed(path, change)
    with pytest.raises(ValueError, match=reason):
        load(path)


def test_parameters_that_came_later_have_their_defaults(path):
    KANRegressor(**SMALL).fit(X, Y).save(path)
    changed(path, lambda header: header["state"].pop("time_limit"))
    assert load(path).time_limit is None
    changed(path, lambda header: header["state"].pop("_network"))
    with pytest.raises(ValueError, match="damaged"):
        load(path)


@pytest.mark.parametrize("folder", [*FIXTURES.iterdir()], ids=lambda folder: folder.name)
@each_class
def test_files_of_every_format_are_read(folder, name):
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))[name]
    _, points, functions = made(name)
    loaded = load(folder / f"{name}.safetensors", **functions)
    np.testing.assert_allclose(outputs(loaded, points), expected, rtol=2e-4, atol=1e-6)


def test_every_class_has_a_fixture_and_is_in_the_table():
    public = {name for name in sklearn_metakan.__all__ if "KAN" in name}
    assert {*NAMES} == public | {"KANPDESolver", "MetaKANPDESolver"}
    for folder in FIXTURES.iterdir():
        assert {each.stem for each in folder.glob("*.safetensors")} == {*NAMES}


def test_a_fresh_process_loads_silently_and_without_what_it_does_not_need(path):
    model = MetaKANRegressor(**SMALL).fit(X, Y)
    model.save(path)
    np.save(path.with_suffix(".npy"), model.predict(X))
    code = """
import sys, numpy as np
from sklearn_metakan import load
model = load(sys.argv[1])
X = np.random.default_rng(0).normal(size=(40, 2))
assert abs(model.predict(X) - np.load(sys.argv[1].replace(".safetensors", ".npy"))).max() < 1e-12
print([n for n in ("torch._dynamo", "sklearn_metakan.pde", "onnx", "triton") if n in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")


def by_skops(model, path):
    skops.io.dump(model, path)
    unknown = skops.io.get_untrusted_types(file=path)
    others = {each for each in unknown if not each.startswith("sklearn_metakan.")}
    assert others <= {"numpy.dtype"}
    return skops.io.load(path, trusted=unknown)


def by_joblib(model, path):
    joblib.dump(model, path)
    return joblib.load(path)


OTHERS = {
    "cloudpickle": lambda model, path: pickle.loads(cloudpickle.dumps(model)),
    "joblib": by_joblib,
    "skops": by_skops,
}


WAYS = [(way, name) for way in OTHERS for name in NAMES if way != "skops" or "PDE" not in name]


@pytest.mark.parametrize(("way", "name"), WAYS)
def test_other_ways_to_keep_an_estimator(way, name, path):
    model, points, _ = made(name)
    loaded = OTHERS[way](model, path)
    np.testing.assert_array_equal(outputs(loaded, points), outputs(model, points))


def test_permissions_are_those_of_any_new_file(path):
    before = os.umask(0o022)
    try:
        KANRegressor().save(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_checkout_that_is_not_installed_saves(path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", missing)
    KANRegressor(**SMALL).fit(X, Y).save(path)
    versions = files.read(path).header["versions"]
    assert versions["sklearn_metakan"] == sklearn_metakan.__version__
    assert versions.keys() > {"python", "torch", "scikit-learn", "skorch", "numpy", "safetensors"}
