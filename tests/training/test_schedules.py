"""Learning rate schedules: course of the factor, what a net's groups get, what stays behind."""

import numpy as np
import pytest
from skorch.callbacks import Callback

from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.training.callbacks import LearningRateSchedule, schedule_factor

pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")

SCHEDULES = ["constant", "cosine", "exponential", "onecycle"]
PROGRESS = np.linspace(0, 1, 101)
X = np.random.default_rng(0).normal(size=(50, 2))
Y = X[:, 0]
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 4, "batch_size": 20, "random_state": 0}
SMALL |= {"n_estimators": 1}


def course(schedule, epochs=100):
    return np.array([schedule_factor(schedule, p, int(p * epochs)) for p in PROGRESS])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_factor_stays_between_zero_and_one_and_reaches_one(schedule):
    factors = course(schedule)
    assert factors.min() >= 0
    assert factors.max() == pytest.approx(1)


def test_constant_is_one():
    assert (course("constant") == 1).all()


def test_cosine_falls_from_one_to_zero_symmetrically():
    factors = course("cosine")
    assert (np.diff(factors) < 0).all()
    assert factors[0] == 1
    assert factors[-1] == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(factors + factors[::-1], 1)
    np.testing.assert_allclose(factors, np.cos(np.pi / 2 * PROGRESS) ** 2, atol=1e-15)


def test_exponential_multiplies_by_the_same_number_each_epoch():
    factors = [schedule_factor("exponential", 0.5, epoch) for epoch in range(20)]
    ratios = np.divide(factors[1:], factors[:-1])
    assert factors[0] == 1
    assert ratios[0] < 1
    np.testing.assert_allclose(ratios, ratios[0])


def test_onecycle_rises_once_and_falls_to_zero():
    factors = course("onecycle")
    top = factors.argmax()
    assert 0 < factors[0] < 0.1
    assert (np.diff(factors[: top + 1]) > 0).all()
    assert (np.diff(factors[top:]) < 0).all()
    assert 0.1 < PROGRESS[top] < 0.5
    assert factors[-1] == pytest.approx(0, abs=1e-15)


def test_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="'step'"):
        schedule_factor("step", 0.0, 0)


class Rates(Callback):
    """Keeps the rates that each batch was trained with, by group."""

    seen: list[list[float]] = []

    def on_train_begin(self, net, **kwargs):
        Rates.seen = []

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            Rates.seen.append([group["lr"] for group in net.optimizer_.param_groups])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_step_gets_its_rate(schedule):
    settings = SMALL | {"learning_rate": 0.1, "learning_rate_schedule": schedule}
    KANRegressor(**settings, callbacks=[Rates()], early_stopping=False, tol=0).fit(X, Y)
    steps = 4 * 3  # epochs, batches of 20, 20 and 10 rows
    expected = [0.1 * schedule_factor(schedule, step / steps, step // 3) for step in range(steps)]
    np.testing.assert_allclose(np.ravel(Rates.seen), expected, rtol=1e-12)


def test_schedule_spans_the_batches_of_the_training_rows_only():
    settings = SMALL | {"learning_rate": 0.1, "learning_rate_schedule": "cosine"}
    settings |= {"validation_fraction": 0.2, "early_stopping": True}
    KANRegressor(**settings, callbacks=[Rates()]).fit(X, Y)
    steps = 4 * 2  # forty rows are left
    expected = [0.1 * schedule_factor("cosine", step / steps, 0) for step in range(steps)]
    np.testing.assert_allclose(np.ravel(Rates.seen), expected, rtol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_groups_keep_their_proportions(schedule):
    rates = {"learning_rate": 0.1, "prompt_learning_rate": 0.02, "meta_learning_rate": 0.001}
    model = MetaKANRegressor(**SMALL, **rates, learning_rate_schedule=schedule)
    model.set_params(callbacks=[Rates()], net_params={"module__bias": True}).fit(X, Y)
    by_group = np.array(Rates.seen)
    assert sorted(set(np.round(by_group[0] / by_group[0].max(), 12))) == [0.01, 0.2, 1.0]
    course = by_group / by_group[0]
    np.testing.assert_allclose(course, np.repeat(course[:, :1], by_group.shape[1], axis=1))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_fit_runs_the_whole_schedule_and_the_rate_is_put_back(schedule):
    settings = SMALL | {"learning_rate": 0.1, "learning_rate_schedule": schedule}
    model = KANRegressor(**settings, callbacks=[Rates()], warm_start=True, tol=0).fit(X, Y)
    first = Rates.seen
    assert [group["lr"] for group in model.net_.optimizer_.param_groups] == [0.1]
    model.fit(X, Y)
    assert Rates.seen == first
    model.partial_fit(X, Y)
    assert np.ravel(Rates.seen).tolist() == [0.1] * 3


def test_lbfgs_has_no_schedule():
    class Optimizer:
        param_groups = [{"lr": 1.0}]

    class Net:
        optimizer_, history = Optimizer(), [1]

    model = KANRegressor(**SMALL, solver="lbfgs", learning_rate_schedule="cosine")
    model.set_params(callbacks=[Rates()], tol=1e9, n_iter_no_change=2).fit(X, Y)
    assert set(np.ravel(Rates.seen)) == {1.0}
    # In validation the rate stays as it is.
    schedule, net = LearningRateSchedule("cosine", 10), Net()
    schedule.on_train_begin(net)
    schedule.steps_ = 9
    schedule.on_batch_begin(net, training=False)
    assert net.optimizer_.param_groups == [{"lr": 1.0}]
