"""Private randomness: int seeds repeat, others do not, global generators stay where they are."""

import random
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.training import draw_seeds

ALL = [KANRegressor, KANClassifier, MetaKANRegressor, MetaKANClassifier]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = (X[:, 0] > 0).astype(float)

# Everything that draws: starting values, shuffled batches, held-out rows, dropout.
SMALL = {
    "hidden_layer_sizes": (4, 4),
    "max_iter": 3,
    "batch_size": 16,
    "dropout": 0.3,
    "early_stopping": True,
}
every = pytest.mark.parametrize("estimator", ALL)


def outputs(model):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def fitted(estimator, **setting):
    return outputs(estimator(**SMALL | setting).fit(X, Y))


@every
def test_int_repeats_exactly(estimator):
    model = estimator(**SMALL, random_state=3)
    first = outputs(model.fit(X, Y))
    np.testing.assert_array_equal(outputs(model.fit(X, Y)), first)
    np.testing.assert_array_equal(fitted(estimator, random_state=3), first)
    np.testing.assert_array_equal(fitted(estimator, random_state=np.int64(3)), first)
    assert np.abs(fitted(estimator, random_state=4) - first).max() > 1e-6


@every
@pytest.mark.parametrize("call", ["warm start", "partial_fit"])
def test_int_repeats_what_goes_on(estimator, call):
    def run():
        model = estimator(**SMALL, random_state=3, warm_start=True)
        for _ in range(3):
            model.fit(X, Y) if call == "warm start" else model.partial_fit(X, Y)
        return outputs(model)

    np.testing.assert_array_equal(run(), run())


@every
def test_random_state_gives_other_consecutive_fits_that_repeat_as_a_sequence(estimator):
    def two_fits():
        model = estimator(**SMALL, random_state=np.random.RandomState(3))
        return [outputs(model.fit(X, Y)) for _ in range(2)]

    once, again = two_fits(), two_fits()
    assert np.abs(once[0] - once[1]).max() > 1e-6
    np.testing.assert_array_equal(once, again)


@every
def test_none_is_fresh_whatever_the_global_seed(estimator):
    fits = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        fits.append(fitted(estimator, random_state=None))
    assert np.abs(fits[0] - fits[1]).max() > 1e-6


@pytest.mark.parametrize("drawn", ["start", "shuffle", "split", "dropout"])
def test_every_source_of_randomness_follows_the_seed(drawn):
    fixed = {"early_stopping": False, "dropout": 0.0, "batch_size": 1000, "max_iter": 2}
    setting = {
        "start": {"max_iter": 1, "learning_rate": 1e-12},
        "shuffle": {"batch_size": 16},
        "split": {"early_stopping": True},
        "dropout": {"dropout": 0.3},
    }[drawn]

    def fit(seed, **setting):
        model = KANRegressor(**SMALL | fixed | {"warm_start": True}, random_state=0).fit(X, Y)
        model.set_params(random_state=seed, warm_start=drawn != "start", **setting)
        return model.fit(X, Y).predict(X)

    np.testing.assert_array_equal(fit(1, **setting), fit(1, **setting))
    assert np.abs(fit(1, **setting) - fit(2, **setting)).max() > 1e-9
    if drawn != "start":  # ... and nothing else did
        np.testing.assert_array_equal(fit(1), fit(2))


def states():
    keys = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state(), np.array(keys[1]), keys[2:], random.getstate()


def assert_same_states(before, after):
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


@every
@pytest.mark.parametrize("random_state", [0, None])
@pytest.mark.parametrize(
    "setting",
    [{}, {"solver": "lbfgs", "dropout": 0.0}, {"dropout": 0.0, "knots": "quantile"}],
    ids=str,
)
def test_global_generators_stay_where_they_are(estimator, random_state, setting):
    model = estimator(**SMALL | setting, random_state=random_state, warm_start=True)
    before = states()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, Y)
        assert_same_states(before, states())
        outputs(model)
        _ = model.feature_importances_
        assert_same_states(before, states())
        model.fit(X, Y)
        clone(model).fit(X, Y, X_val=X, y_val=Y)
        joblib.hash(model)
    if model.solver == "adamw":
        model.partial_fit(X, Y)
    assert_same_states(before, states())


@every
def test_threads_do_not_disturb_each_other(estimator):
    seeds = [0, 1, 2, 0, 1, 2]
    alone = [fitted(estimator, random_state=seed) for seed in seeds]
    before = states()
    together = joblib.Parallel(n_jobs=3, backend="threading")(
        joblib.delayed(fitted)(estimator, random_state=seed) for seed in seeds
    )
    assert_same_states(before, states())
    np.testing.assert_array_equal(together, alone)


@every
def test_processes_give_what_the_main_one_gives(estimator):
    alone = [fitted(estimator, random_state=seed) for seed in (0, 1)]
    apart = joblib.Parallel(n_jobs=2)(
        joblib.delayed(fitted)(estimator, random_state=seed) for seed in (0, 1)
    )
    np.testing.assert_allclose(apart, alone, rtol=1e-10, atol=1e-12)


def test_rows_of_another_order_are_another_split_but_the_same_start():
    settings = SMALL | {"early_stopping": False, "dropout": 0.0, "batch_size": 1000}
    forward = KANRegressor(**settings, random_state=0).fit(X, Y).predict(X)
    backward = KANRegressor(**settings, random_state=0).fit(X[::-1], Y[::-1]).predict(X)
    np.testing.assert_allclose(forward, backward, rtol=1e-6, atol=1e-9)  # full batches


def test_seeds_are_drawn_without_moving_what_they_are_drawn_from():
    assert draw_seeds(3, 2) == draw_seeds(3, 2)
    assert draw_seeds(3, 2) == draw_seeds(3, 5)[:2]
    assert draw_seeds(3, 2) != draw_seeds(4, 2)
    source = np.random.RandomState(3)
    assert draw_seeds(source, 2) + draw_seeds(source, 3) == draw_seeds(3, 5)
    assert draw_seeds(None, 2) != draw_seeds(None, 2)
    assert len(set(draw_seeds(0, 100))) == 100
