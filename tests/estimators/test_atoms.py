"""Values that many rows have, in columns of which most rows have one, beside the curve."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor, load
from sklearn_metakan.inspection import EdgeDisplay
from sklearn_metakan.symbolic import prune

N = 600
RNG = np.random.default_rng(0)
AMOUNTS = np.arange(1.0, 12.0) ** 3
OWN = [8.0, 125.0, 512.0]  # amounts that do what no neighbour does
GAINS = np.where(RNG.random(N) < 0.6, 0.0, RNG.choice(AMOUNTS, size=N))
OTHER = RNG.normal(size=N)
X = pd.DataFrame({"gain": GAINS, "other": OTHER})
Y = np.where(np.isin(GAINS, OWN), 3.0, 0.0) + OTHER + 0.1 * RNG.normal(size=N)
FEW = {"hidden_layer_sizes": (8,), "n_estimators": 2, "max_iter": 3, "random_state": 0}
each = pytest.mark.parametrize(
    "estimator", [KANRegressor, MetaKANRegressor, KANClassifier, MetaKANClassifier]
)


def target_of(estimator):
    return Y if estimator in (KANRegressor, MetaKANRegressor) else np.digitize(Y, [1.0, 2.5])


def answers(model, table):
    return getattr(model, "predict_proba", model.predict)(table)


def atoms_of(values, weight=None, **settings):
    model = KANRegressor(**FEW | settings, early_stopping=False)
    y = np.arange(len(values)) % 7.0
    return model.fit(np.c_[values, y], y, weight).input_scaler_.atoms_


@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANRegressor])
def test_what_a_value_does_by_itself_is_learned(estimator):
    settings = {"n_estimators": 1, "max_iter": 60, "random_state": 0}
    model, curves = estimator(**settings), estimator(scale_inputs="minmax", **settings)
    left, of_curves = (
        1 - each.fit(X[:450], Y[:450]).score(X[450:], Y[450:]) for each in (model, curves)
    )
    assert left < 0.05 and left < 0.3 * of_curves


@each
def test_every_way_to_keep_a_model_keeps_them(estimator, tmp_path):
    model = estimator(**FEW).fit(X, target_of(estimator))
    expected = answers(model, X)
    model.save(tmp_path / "model.kan")
    for again in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model.kan")):
        np.testing.assert_array_equal(answers(again, X), expected)
        assert len(again.input_scaler_.atoms_) == 12
    served = model.to_torch()(torch.tensor(X.to_numpy())).detach().numpy()
    np.testing.assert_allclose(served, expected, rtol=1e-9, atol=1e-9)
    single = estimator(**FEW).fit(X.astype(np.float32), target_of(estimator))
    assert len(single.module_.layers[0].levels.atom) == 12
    assert (single.module_.layers[0].levels.table != 0).any(1).all()


def test_which_values_have_them():
    lumped = np.repeat([0.0, *range(1, 10), 50.0], [100, *[9] * 9, 4])
    found = atoms_of(lumped)
    np.testing.assert_array_equal(found[:, 1], range(10))  # 50 is in four rows
    np.testing.assert_array_equal(found[:, 2], [100, *[9] * 9])
    np.testing.assert_allclose(found[:, 3], found[:, 2] / len(lumped))
    assert set(found[:, 0]) == {0}
    assert len(atoms_of(np.repeat(np.arange(12.0), 10))) == 0  # no value of most rows
    assert len(atoms_of(np.repeat([0.0, 1, 2, 5], [60, 20, 20, 20]))) == 0  # a curve does
    assert len(atoms_of(np.repeat(np.arange(101.0), [900, *[6] * 100]))) == 64
    for kind in ("minmax", "standard", "quantile", None):
        assert len(atoms_of(lumped, scale_inputs=kind)) == 0


def test_weights_count_as_rows():
    values = np.array([0.0, *range(1, 10), 50.0])
    counts = np.array([100, *[9] * 9, 4])
    weight = np.repeat(counts / 2.0, 2)
    np.testing.assert_allclose(
        atoms_of(np.repeat(values, 2), weight), atoms_of(np.repeat(values, counts))
    )


def test_a_monotone_column_has_none():
    model = KANRegressor(**FEW, monotonic_cst={"gain": 1}).fit(X, Y)
    line = pd.DataFrame({"gain": np.linspace(0, 1331, 2663), "other": 0.0})
    assert (np.diff(model.predict(line)) >= -1e-9).all()


def test_a_gap_that_training_did_not_see_is_the_mean_of_curve_and_atoms():
    model = KANRegressor((), n_estimators=2, max_iter=40, random_state=0).fit(X, Y)
    gap = X[:3].assign(gain=np.nan)
    mean = np.mean([model.predict(X[:3].assign(gain=value)) for value in GAINS], axis=0)
    np.testing.assert_allclose(model.predict(gap), mean, atol=0.02 * Y.std())


def test_they_are_drawn_where_the_column_has_them():
    model = KANRegressor((), n_estimators=1, max_iter=60, random_state=0).fit(X, Y)
    display = EdgeDisplay.from_estimator(model, edges=[("gain", 0), ("other", 0)])
    values, effects = display.atoms[0].T
    np.testing.assert_allclose(values, [0.0, *AMOUNTS], atol=1e-9)
    assert effects[np.isin(values, OWN)].min() > effects[~np.isin(values, OWN)].max() + 1
    assert len(display.atoms[1]) == 0


def test_prune_says_how_to_do_without():
    with pytest.raises(ValueError, match="scale_inputs='minmax'"):
        prune(MetaKANRegressor(**FEW).fit(X, Y))
    curves = prune(KANRegressor(**FEW, scale_inputs="minmax").fit(X, Y), X=X, y=Y)
    assert curves.predict(X).shape == (N,)
