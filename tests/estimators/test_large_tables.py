"""What "auto" means beyond 10,000 rows, and that training that goes on keeps what it began with."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor, load
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.table import TableInputs
from sklearn_metakan.training import Defaults, MadeData

LARGE = 10_001
ONE_PASS = {"max_iter": 1, "batch_size": 2000, "random_state": 0, "device": "cpu"}
REGRESSORS = pytest.mark.parametrize("kind", [KANRegressor, MetaKANRegressor])


def rows(n, seed=0):
    X = np.random.default_rng(seed).uniform(-1, 1, (n, 2))
    return X, X[:, 0] * X[:, 1]


def hidden(model):
    network = model.module_
    return tuple(layer.out_features // network.n_members for layer in network.layers[:-1])


def decay(model):
    return model.net_.optimizer_.param_groups[-1]["weight_decay"]


@REGRESSORS
def test_widths_decay_and_precision_follow_the_rows(kind):
    large = kind._defaults.large
    X, y = rows(LARGE)
    small = kind(**ONE_PASS).fit(X[1:], y[1:])
    assert hidden(small) == (32, 32) and decay(small) == kind._defaults.weight_decay
    assert small.net_.execution_.dtype == torch.float64
    wide = kind(**ONE_PASS).fit(X, y)
    assert hidden(wide) == large.widths != (32, 32) and decay(wide) == large.weight_decay
    assert wide.net_.execution_.dtype == torch.float32
    assert wide.predict(X[:3]).dtype == np.float64
    assert wide.hidden_layer_sizes == "auto"  # the parameter stays what it was


@REGRESSORS
def test_what_is_given_counts_on_any_table(kind):
    X, y = rows(LARGE)
    given = {"hidden_layer_sizes": (3,), "weight_decay": 0.5, "precision": "float64"}
    model = kind(**ONE_PASS | given).fit(X, y)
    assert hidden(model) == (3,) and decay(model) == 0.5
    assert model.net_.execution_.dtype == torch.float64


@pytest.mark.parametrize("kind", [KANRegressor, MetaKANRegressor, KANClassifier, MetaKANClassifier])
def test_passes_follow_the_rows(kind):
    trainer = kind()._trainer()
    trainer.follow(np.dtype(float), LARGE)
    of = kind._defaults.of(LARGE)
    for batches in (1, 40, 10**6):
        expected = min(of.passes[1], max(of.passes[0], -(-of.steps // batches)))
        assert trainer._length(batches)[0] == expected


@REGRESSORS
def test_small_tables_have_small_batches(kind):
    trainer, most = kind()._trainer(), 16
    for n in (1, 500, 512, 513, 1000, 1025, 2049, 10**6):
        rows_of_step = trainer._batch_size(n)
        assert 32 <= rows_of_step <= 256 and rows_of_step.bit_count() == 1
        assert rows_of_step == 256 or n <= most * rows_of_step
        assert rows_of_step == 32 or n > most * rows_of_step / 2
    X, y = rows(100)
    once = ONE_PASS | {"batch_size": "auto", "early_stopping": False}
    assert len(kind(**once).fit(X, y).net_.history[0, "batches"]) == 4
    assert len(kind(**once | {"batch_size": 50}).fit(X, y).net_.history[0, "batches"]) == 2
    assert len(kind(**once).partial_fit(X, y).net_.history[0, "batches"]) == 1


def test_batches_of_classifiers_are_alike_for_all_tables():
    assert KANClassifier()._trainer()._batch_size(40) == 256


def test_defaults_of_a_table():
    small = Defaults(large=Defaults((8,)))
    assert small.of(0) is small.of(LARGE - 1) is small
    assert small.of(LARGE) is small.large
    assert Defaults().of(LARGE) == Defaults()


@pytest.mark.parametrize("first", [300, LARGE])
def test_training_that_goes_on_keeps_its_network(first):
    X, y = rows(LARGE)
    other = LARGE if first == 300 else 300
    model = MetaKANRegressor(**ONE_PASS, warm_start=True).fit(X[:first], y[:first])
    widths, dtype = hidden(model), model.net_.execution_.dtype
    assert (widths == (32, 32)) == (first == 300)
    again = pickle.loads(pickle.dumps(model))
    for each in (model, again):
        each.fit(X[:other], y[:other])
        assert hidden(each) == widths and each.net_.execution_.dtype == dtype
    chunks = (
        KANRegressor(**ONE_PASS).partial_fit(X[:first], y[:first]).partial_fit(X[:other], y[:other])
    )
    assert hidden(chunks) == widths


def test_large_fits_in_files(tmp_path):
    X, y = rows(LARGE)
    model = MetaKANRegressor(**ONE_PASS, warm_start=True).fit(X, y)
    model.save(tmp_path / "model.kan")
    loaded = load(tmp_path / "model.kan")
    assert loaded.hidden_layer_sizes == "auto" and hidden(loaded) == hidden(model)
    np.testing.assert_array_equal(loaded.predict(X[:5]), model.predict(X[:5]))
    assert hidden(loaded.fit(X[:300], y[:300])) == hidden(model)


def test_auto_is_the_only_word():
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        KANRegressor("wide").fit(*rows(20))


@pytest.mark.parametrize("n", [LARGE - 1, LARGE])
def test_clusters_without_a_tail_keep_their_places(n):
    rng = np.random.default_rng(0)
    clusters = rng.choice([-0.8, -0.7, 0.8], n) + rng.uniform(-0.05, 0.05, n)
    X = np.column_stack([clusters, rng.exponential(size=n)])
    inputs = TableInputs().fit(Rows(X, None, clusters, None), n_rows=n)
    of_clusters, of_tail = map(len, inputs.points_)
    assert (of_clusters == 2) == (n == LARGE) and of_tail > 2


@pytest.mark.parametrize("kind", [KANRegressor, MetaKANClassifier])
@pytest.mark.parametrize("settings", [{}, {"n_estimators": 1}, {"n_estimators": 9}])
def test_inputs_scaled_batch_by_batch_give_the_same_fit(kind, settings, monkeypatch):
    X, y = rows(3000)
    X = np.column_stack([X, np.arange(3000) % 7])
    X[::50, 0] = np.nan
    y, weight = y > 0 if kind is MetaKANClassifier else y, 1 + (X[:, 2] == 3)
    weight[:9] = 0.0
    how = {"max_iter": 3, "batch_size": 100, "random_state": 0, "categorical_features": [2]}
    monkeypatch.setattr("sklearn_metakan.training.net.FEATURES_MEMORY", 0.0)  # as of large tables
    made, fits = made_later(monkeypatch), []
    for memory in (64.0, 0.0):
        monkeypatch.setattr("sklearn_metakan.estimators.estimator.SCALED_MEMORY", memory)
        fits.append(kind(**how, **settings).fit(X, y, sample_weight=weight))
        assert bool(made) == (memory == 0.0)
    whole, later = fits
    assert whole.loss_curve_ == later.loss_curve_
    assert whole.validation_scores_ == later.validation_scores_
    np.testing.assert_array_equal(whole.predict(X), later.predict(X))


@pytest.mark.parametrize("settings", [{"hidden_layer_sizes": (4,)}, {"solver": "lbfgs"}])
def test_inputs_are_scaled_at_once_where_it_would_take_long_in_each_pass(settings, monkeypatch):
    X, y = rows(3000)
    made = made_later(monkeypatch)
    monkeypatch.setattr("sklearn_metakan.estimators.estimator.SCALED_MEMORY", 0.0)
    KANRegressor(**ONE_PASS | {"n_estimators": 1} | settings).fit(X, y)
    assert not made


def made_later(monkeypatch):
    """What grows whenever inputs are left to be made later."""
    made = []

    class Made(MadeData):
        def __init__(self, *arguments):
            made.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr("sklearn_metakan.estimators.estimator.MadeData", Made)
    return made
