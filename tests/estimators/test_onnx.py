"""export_onnx: onnxruntime predicts what predict does."""

import builtins
import logging

import numpy as np
import pandas as pd
import pytest
from test_export import BEYOND, IMAGES, MODELS, SHORT, TABLE, X, Y, fitted

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANImageClassifier,
    MetaKANRegressor,
)

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
ROWS = BEYOND.numpy()


def run(path, X):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def assert_same(model, path, tables):
    for table in tables:
        found = run(path, table)
        if not hasattr(model, "classes_"):
            expected = model.predict(table)
            assert found["prediction"].shape == expected.shape
            np.testing.assert_allclose(found["prediction"], expected, rtol=1e-5, atol=1e-5)
            continue
        np.testing.assert_array_equal(found["label"], model.predict(table))
        expected = model.predict_proba(table)
        np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5, atol=1e-5)


FEW = {"meta"}


@pytest.mark.parametrize(
    "name",
    [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in MODELS],
)
def test_every_basis(name, tmp_path, capsys, caplog):
    model, path = fitted(name), tmp_path / "model.onnx"
    with caplog.at_level(logging.WARNING):
        model.export_onnx(path)
    assert capsys.readouterr().out == ""
    assert_same(model, path, (ROWS, X, X[:1]))
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes, ä", "perhaps"]),
        pytest.param(np.array([3, -1]), marks=pytest.mark.slow),
        pytest.param(np.array([False, True]), marks=pytest.mark.slow),
        pytest.param(np.array(["a", "b"], dtype=object), marks=pytest.mark.slow),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels(labels, tmp_path):
    y = labels[np.arange(len(X)) % len(labels)]
    model = KANClassifier(**TABLE).fit(X.astype(np.float32), y)
    model.export_onnx(tmp_path / "model.onnx")
    assert_same(model, tmp_path / "model.onnx", (ROWS.astype(np.float32), X[:1].astype("f4")))


@pytest.mark.slow
def test_several_labels(tmp_path):
    model = KANClassifier(**TABLE | {"n_estimators": 2}).fit(X, X[:, :2] > 0)
    model.export_onnx(tmp_path / "model.onnx")
    assert_same(model, tmp_path / "model.onnx", (ROWS, X[:1]))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(KANImageClassifier, np.float32, marks=pytest.mark.slow),
        pytest.param(KANImageClassifier, np.float64, marks=pytest.mark.slow),
        (MetaKANImageClassifier, np.uint8),
    ],
)
def test_images(kind, dtype, tmp_path):
    images = (40 * abs(IMAGES)).astype(dtype)
    model = kind((3,), **SHORT, norm="batch").fit(images, IMAGES[:, 0, 0] > 0)
    model.export_onnx(tmp_path / "model.onnx")
    images = images.astype(np.float32) if dtype is np.float64 else images
    if dtype is np.float64:
        found = run(tmp_path / "model.onnx", images)["probabilities"]
        np.testing.assert_allclose(found, model.predict_proba(images.astype(dtype)), atol=1e-5)
        return
    assert_same(model, tmp_path / "model.onnx", (images, images[:1]))


@pytest.mark.slow
def test_several_outputs_and_constant_columns(tmp_path):
    table = np.c_[X, np.full(len(X), 3.0)].astype(np.float32)
    model = MetaKANRegressor(**TABLE, scale_inputs="standard").fit(table, np.c_[Y, 1e6 * Y])
    model.export_onnx(tmp_path / "model.onnx")
    expected = model.predict(table)
    found = run(tmp_path / "model.onnx", table)["prediction"]
    np.testing.assert_allclose(found / expected.std(0), expected / expected.std(0), atol=1e-5)


def test_an_error_cannot_be_raised_by_a_graph(tmp_path):
    model = KANRegressor(**TABLE, extrapolation="error").fit(X, Y)
    with pytest.raises(ValueError, match='extrapolation="error"'):
        model.export_onnx(tmp_path / "model.onnx")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return imported(name, *arguments, **keywords)

    model = KANRegressor(**TABLE).fit(X, Y)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"sklearn_metakan\[onnx\]"):
        model.export_onnx(tmp_path / "model.onnx")


def of_towns():
    towns = np.array(["Bonn", "Köln", "Trier"])
    codes = np.arange(len(X)) % 3
    table = pd.DataFrame({"a": X[:, 0], "town": pd.Categorical(towns[codes]), "b": X[:, 1]})
    table.loc[::5, "a"] = np.nan
    table["late"] = codes > 1
    return table, codes


def test_categories_that_are_text(tmp_path):
    """Each column under its name, with what is missing and what training did not see."""
    table, codes = of_towns()
    table.loc[3, "town"] = None
    model = KANRegressor(**TABLE).fit(table, Y + codes)
    model.export_onnx(tmp_path / "model.onnx")
    table["town"] = table["town"].astype(object).mask(np.arange(len(X)) == 4, "Aachen")
    given = {name: table[[name]].to_numpy(np.float64) for name in ("a", "b", "late")}
    given["town"] = table[["town"]].fillna("").to_numpy(object)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(["prediction"], given)
    np.testing.assert_allclose(found, model.predict(table), rtol=1e-5, atol=1e-5)
    assert not np.allclose(found[4], model.predict(table.assign(town="Bonn"))[4])


def test_columns_may_be_called_as_numbers_of_the_graph(tmp_path):
    table, codes = of_towns()
    table = table.rename(columns={"a": "X", "b": "val_0", "late": "graph"})
    model = KANRegressor(**TABLE).fit(table, Y + codes)
    model.export_onnx(tmp_path / "model.onnx")
    given = {name: table[[name]].to_numpy(np.float64) for name in ("X", "val_0", "graph")}
    given["town"] = table[["town"]].to_numpy(object)
    (found,) = runtime.InferenceSession(tmp_path / "model.onnx").run(["prediction"], given)
    np.testing.assert_allclose(found, model.predict(table), rtol=1e-5, atol=1e-5)


def test_a_column_called_as_an_output_is_refused(tmp_path):
    table, codes = of_towns()
    model = KANRegressor(**TABLE).fit(table.rename(columns={"a": "prediction"}), Y + codes)
    with pytest.raises(ValueError, match="'prediction' would not be alone"):
        model.export_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("has_gaps", [False, True])
def test_empty_text_is_a_level_or_a_gap(has_gaps, tmp_path):
    table, codes = of_towns()
    table["town"] = np.where(codes == 0, "", np.where(codes == 1, "Bonn", "Trier")).astype(object)
    table.loc[3, "town"] = None if has_gaps else "Bonn"
    model = KANRegressor(**TABLE).fit(table, Y + codes)
    if has_gaps:
        with pytest.raises(ValueError, match=r"'town' has \"\" and missing"):
            model.export_onnx(tmp_path / "model.onnx")
        return
    model.export_onnx(tmp_path / "model.onnx")
    given = {name: table[[name]].to_numpy(np.float64) for name in ("a", "b", "late")}
    given["town"] = table[["town"]].to_numpy(object)
    (found,) = runtime.InferenceSession(tmp_path / "model.onnx").run(["prediction"], given)
    np.testing.assert_allclose(found, model.predict(table), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_missing_numbers_and_other_categories(tmp_path):
    table, codes = of_towns()
    table["town"] = codes.astype(float)
    model = KANRegressor(**TABLE, categorical_features=["town"]).fit(table, Y + codes)
    model.export_onnx(tmp_path / "model.onnx")
    plain = table[["a", "town", "b", "late"]].to_numpy(np.float64)
    found = run(tmp_path / "model.onnx", plain)["prediction"]
    np.testing.assert_allclose(found, model.predict(table), rtol=1e-5, atol=1e-5)
