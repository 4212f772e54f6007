"""Tables that stay in their files: what is learnt is what a table in memory teaches."""

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
import zarr
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANRegressor,
    StoredTable,
)
from sklearn_metakan.estimators.inputs import stored, survey

RNG = np.random.default_rng(0)
N, D = 900, 4
X = RNG.normal(size=(N, D)).astype(np.float32)
X[:, 3] = np.exp(X[:, 3])
Y = X[:, 0] + np.sin(2 * X[:, 1])
FRAME = pd.DataFrame(X, columns=[*"abcd"])
SMALL = {"hidden_layer_sizes": (4,), "n_estimators": 2, "max_iter": 8, "batch_size": 64}
SMALL |= {"random_state": 0}


def memmap(folder, array=X):
    np.save(folder / "X.npy", array)
    return np.load(folder / "X.npy", mmap_mode="r")


def of_hdf5(folder):
    file = h5py.File(folder / "X.h5", "w")
    return file.create_dataset("X", data=X, chunks=(50, D))


def of_zarr(folder):
    array = zarr.create_array(str(folder / "X.zarr"), shape=X.shape, chunks=(37, 2), dtype="f4")
    array[:] = X
    return array


def parquet(folder):
    pa.parquet.write_table(pa.Table.from_pandas(FRAME), folder / "X.parquet", row_group_size=150)
    return pa.parquet.ParquetFile(folder / "X.parquet")


def dataset(folder):
    for k in range(3):
        part = pa.Table.from_pandas(FRAME[k * 300 : (k + 1) * 300], preserve_index=False)
        pa.parquet.write_table(part, folder / f"{k}.parquet", row_group_size=110)
    return pa.dataset.dataset([str(folder / f"{k}.parquet") for k in range(3)])


def arrow(folder):
    return pa.Table.from_pandas(FRAME)


SOURCES = [memmap, of_hdf5, of_zarr, parquet, dataset, arrow]
each_source = pytest.mark.parametrize("make", SOURCES)


@each_source
def test_blocks_are_the_table(make, tmp_path):
    table = StoredTable(make(tmp_path), memory=0.04)
    assert table.shape == X.shape
    assert len(table.starts) > 4
    np.testing.assert_array_equal(np.asarray(table.read()), X)
    rows = np.flatnonzero(RNG.random(N) < 0.3)
    np.testing.assert_array_equal(np.asarray(table[rows].read()), X[rows])
    np.testing.assert_array_equal(np.asarray(table[rows][5:40:3].read()), X[rows][5:40:3])
    mask = np.arange(N) % 2 == 0
    np.testing.assert_array_equal(np.asarray(table[mask].read()), X[mask])


@each_source
def test_a_fit_is_as_good_as_in_memory(make, tmp_path):
    table = StoredTable(make(tmp_path), memory=0.04)
    model = MetaKANRegressor(**SMALL).fit(table, Y)
    known = MetaKANRegressor(**SMALL).fit(X, Y)
    assert model.score(table, Y) == pytest.approx(known.score(X, Y), abs=0.05)
    assert model.score(table, Y) > 0.8
    np.testing.assert_array_equal(model.input_scaler_.ranges_, known.input_scaler_.ranges_)
    assert hasattr(model, "feature_names_in_") == (make in (parquet, dataset, arrow))


@each_source
def test_predictions_are_those_of_the_table_in_memory(make, tmp_path):
    given = FRAME if make in (parquet, dataset, arrow) else X
    model = KANRegressor(**SMALL).fit(given, Y)
    source = make(tmp_path)
    table = StoredTable(source, memory=0.04)
    for ask in (model.predict, model.predict_interval, lambda X: model.predict(X, return_std=True)):
        np.testing.assert_allclose(ask(table), ask(given), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(source), model.predict(given), rtol=1e-5, atol=1e-5)
    classifier = KANClassifier(**SMALL).fit(given, Y > 0)
    assert classifier.score(table, Y > 0) == classifier.score(given, Y > 0)
    found, known = classifier.predict_proba(table), classifier.predict_proba(given)
    np.testing.assert_allclose(found, known, atol=1e-5)


def test_large_tables_in_files_are_stored_ones(tmp_path, monkeypatch):
    sources = [make(tmp_path) for make in SOURCES]
    assert all(stored.as_stored(source) is None for source in sources)
    monkeypatch.setattr(stored, "LARGEST_READ", 1000)
    for source in sources:
        found = stored.as_stored(source)
        assert isinstance(found, StoredTable)
        assert found.shape == X.shape
    for in_memory in (X, FRAME, X.tolist(), memmap(tmp_path)[np.arange(5)], None):
        assert stored.as_stored(in_memory) is None


def test_weights_zero_rows_and_repeated_fits(tmp_path):
    table = StoredTable(memmap(tmp_path), memory=0.04)
    weight = RNG.random(N) * (RNG.random(N) < 0.7)
    settings = SMALL | {"early_stopping": False}
    first, second = (KANRegressor(**settings).fit(table, Y, weight) for _ in range(2))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    counts = weight > 0
    without = KANRegressor(**settings).fit(table[counts], Y[counts], weight[counts])
    known = without.input_scaler_
    np.testing.assert_array_equal(first.input_scaler_.ranges_, known.ranges_)
    np.testing.assert_allclose(first.input_scaler_.quantiles_, known.quantiles_, atol=1e-6)
    assert first.score(X[counts], Y[counts]) == pytest.approx(
        without.score(X[counts], Y[counts]), abs=0.05
    )


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_a_single_network_and_members_hold_rows_out(n_estimators, tmp_path):
    table = StoredTable(memmap(tmp_path), memory=0.04)
    settings = SMALL | {"n_estimators": n_estimators}
    model = KANClassifier(**settings).fit(table, np.where(Y > 0, "high", "low"))
    assert model.best_validation_score_ > 0.8
    assert model.score(X, np.where(Y > 0, "high", "low")) > 0.85


def test_validation_rows_warm_start_and_partial_fit(tmp_path):
    table, old = StoredTable(memmap(tmp_path), memory=0.04), slice(0, 600)
    new = slice(600, None)
    model = MetaKANClassifier(**SMALL, warm_start=True)
    model.fit(table[old], Y[old] > 0, X_val=table[new], y_val=Y[new] > 0)
    first = model.best_validation_score_
    model.fit(table[old], Y[old] > 0, X_val=X[new], y_val=Y[new] > 0)
    assert model.best_validation_score_ > max(0.8, first - 0.03)
    model.partial_fit(table[new], Y[new] > 0)
    assert model.score(X, Y > 0) > 0.8


def test_searches_take_rows(tmp_path):
    table = StoredTable(memmap(tmp_path), memory=0.04)
    search = GridSearchCV(
        KANRegressor(**SMALL), {"grid_size": [3, 5]}, cv=3, error_score="raise"
    ).fit(table, Y)
    assert search.best_score_ > 0.6
    assert len(cross_val_score(KANRegressor(**SMALL), table, Y, cv=2)) == 2


def test_gaps_and_levels_are_all_seen(tmp_path, monkeypatch):
    """Also those of a single row that no sample would hold."""
    monkeypatch.setattr(survey, "MOST_SAMPLED", 20)
    frame = FRAME.copy()
    frame["town"] = RNG.choice(["Bonn", "Köln"], N)
    frame.loc[417, "town"], frame.loc[777, "b"] = "Trier", np.nan
    frame.loc[5, "town"] = None
    pa.parquet.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet", row_group_size=150)
    table = StoredTable(pa.dataset.dataset(tmp_path / "t.parquet"))
    target = Y + (frame["town"] == "Köln")
    model = KANRegressor(**SMALL | {"max_iter": 12}).fit(table, target)
    assert model.categories_[4].tolist() == ["Bonn", "Köln", "Trier"]
    inputs = model.input_scaler_
    assert inputs.gaps_[1] == pytest.approx(1)
    assert inputs.code_counts_[0].sum() == pytest.approx(N)
    np.testing.assert_array_equal(
        inputs.ranges_[:, [0, 2, 3]], [X.min(0)[[0, 2, 3]], X.max(0)[[0, 2, 3]]]
    )
    assert model.score(table, target) > 0.8
    np.testing.assert_allclose(model.predict(table), model.predict(frame), atol=1e-5)


def test_scaling_follows_the_sample(tmp_path, monkeypatch):
    n = 20_000
    many = RNG.normal(size=(n, 2)) * [1.0, 5.0] + [0.0, 3.0]
    monkeypatch.setattr(survey, "MOST_SAMPLED", 4000)
    table = StoredTable(memmap(tmp_path, many), memory=0.2)
    settings = {"max_iter": 1, "n_estimators": 1, "random_state": 0, "batch_size": 1000}
    for kind in ("auto", "standard", "quantile", "minmax"):
        model = KANRegressor((), scale_inputs=kind, **settings).fit(table, many[:, 0])
        known = KANRegressor((), scale_inputs=kind, **settings).fit(many, many[:, 0])
        found, meant = (m.input_scaler_.transform(many[:500]) for m in (model, known))
        assert np.abs(found - meant).max() < 0.2
        assert np.abs(found - meant).mean() < 0.05


def test_checkpoints_know_the_table(tmp_path):
    table = StoredTable(memmap(tmp_path), memory=0.04)
    settings = SMALL | {"checkpoint_dir": tmp_path / "run", "checkpoint_every": (2, 0)}
    unbroken = KANRegressor(**SMALL).fit(table, Y)
    KANRegressor(**settings).fit(table, Y)
    again = KANRegressor(**settings).fit(table, Y, resume=True)
    np.testing.assert_array_equal(again.predict(X), unbroken.predict(X))
    with pytest.raises(ValueError, match="differs in X"):
        KANRegressor(**settings).fit(StoredTable(X + 1, memory=0.04), Y, resume=True)


@pytest.mark.parametrize(
    ("model", "source", "message"),
    [
        (KANRegressor(solver="lbfgs"), X, "solver='adamw'"),
        (KANImageClassifier(), X, "numpy.memmap of images"),
        (KANRegressor(), np.where(X > 3, np.inf, X), "infinity"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(model, source, message):
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(StoredTable(source, memory=0.04), Y > 0)
    assert not hasattr(model, "net_")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (X.tolist(), "arrays of shape"),
        (X[0], "of shape"),
        (X.astype(object), "dtype object"),
        (X[:0], "0 sample"),
        (X[:, :0], "0 feature"),
    ],
)
def test_what_is_no_table_is_refused(source, message):
    with pytest.raises((TypeError, ValueError), match=message):
        StoredTable(source)
    with pytest.raises((TypeError, ValueError), match="memory"):
        StoredTable(X, memory=0)


def test_rows_are_taken_in_order():
    table = StoredTable(X)
    with pytest.raises(ValueError, match="rising order"):
        table[[3, 1]]
    with pytest.raises(TypeError, match="by rows"):
        table[3]


def test_other_columns_are_refused_in_predict():
    model = KANRegressor(**SMALL).fit(X, Y)
    with pytest.raises(ValueError, match="features"):
        model.predict(StoredTable(X[:, :3]))
