"""L-BFGS against torch's own, parameter groups, weight decay and net_params."""

import copy
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.nn import KAN, MetaLearner
from sklearn_metakan.training.optimisers import LBFGS

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(60, 2))
Y = np.sin(3 * X[:, 0]) + X[:, 1] ** 2

# One full batch an epoch at a constant rate.
STEPS = {
    "n_estimators": 1,
    "hidden_layer_sizes": (3,),
    "max_iter": 4,
    "batch_size": 1000,
    "learning_rate": 0.01,
    "learning_rate_schedule": "constant",
    "weight_decay": 0.0,
    "random_state": 0,
}
META = {"meta_hidden_dim": 4, "edge_scale": True}

pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")


# --- L-BFGS ---------------------------------------------------------------------------

OPTIONS = {
    "lr": 1.0,
    "history_size": 50,
    "tolerance_grad": 1e-12,
    "tolerance_change": 0.0,
    "line_search_fn": "strong_wolfe",
}


def rosenbrock():
    point = torch.tensor([-1.2, 1.0, 0.5], dtype=torch.float64, requires_grad=True)

    return [point], lambda: valley(point)


def valley(x):
    """Rosenbrock's function; its minimum is 0 at ones, at the end of a bent valley."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def network(meta_learners=None):
    generator = torch.Generator().manual_seed(0)
    kan = KAN([2, 3, 1], meta_learners=meta_learners, generator=generator, dtype=torch.float64)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)[:, None]
    return list(kan.parameters()), lambda: (kan(x) - y).pow(2).mean()


PROBLEMS = {
    "rosenbrock": rosenbrock,
    "KAN": network,
    "MetaKAN": lambda: network(MetaLearner(2, 4, 9, "tanh", dtype=torch.float64)),
}


def closure_of(optimizer, loss, evaluations):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        evaluations.append(value.item())
        return value

    return closure


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("iterations", [1, 2, 25])
def test_steps_of_one_iteration_equal_one_long_call_of_torch(problem, iterations):
    """... on the loss in units of the rounding."""
    parameters, loss = problem()
    long_run = []
    optimizer = torch.optim.LBFGS(parameters, max_iter=iterations, max_eval=10_000, **OPTIONS)
    optimizer.step(closure_of(optimizer, lambda: loss() * 2**52, long_run))
    expected = [p.detach().clone() for p in parameters]

    parameters, loss = problem()
    steps = []
    optimizer = LBFGS(parameters)
    closure = closure_of(optimizer, loss, steps)
    for _ in range(iterations):
        returned = optimizer.step(closure)
        assert returned.item() == loss().item()  # the loss of the accepted point
    for mine, theirs in zip(parameters, expected, strict=True):
        torch.testing.assert_close(mine.detach(), theirs, rtol=0, atol=0)
    # ... at the price of at most one evaluation more in all, not one a step.
    assert len(steps) <= len(long_run) + 1


@pytest.mark.parametrize("size", [2, 10])
def test_valley_is_followed_to_its_end_in_as_many_steps_as_scipys(size):
    start = np.where(np.arange(size) % 2, 1.0, -1.2)
    precise = {"gtol": 0, "ftol": 0, "maxcor": 20}
    scipys = scipy.optimize.minimize(
        lambda x: (scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)),
        start,
        jac=True,
        method="L-BFGS-B",
        options=precise,
        callback=stop_below(1e-18),
    )
    point = torch.tensor(start, requires_grad=True)
    optimizer, steps = LBFGS([point]), 0
    while optimizer.step(closure_of(optimizer, lambda: valley(point), [])) > 1e-18:
        steps += 1
        assert steps < 1.5 * scipys.nit + 10
    torch.testing.assert_close(point.detach(), torch.ones(size, dtype=torch.float64))


def stop_below(value):
    def callback(intermediate_result):
        if intermediate_result.fun < value:
            raise StopIteration

    return callback


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**20])
def test_unit_of_the_loss_does_not_matter(unit):
    paths = []
    for factor in (1.0, unit):
        point = torch.tensor([-1.2, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
        optimizer = LBFGS([point])
        closure = closure_of(optimizer, lambda x=point, factor=factor: factor * valley(x), [])
        paths.append([optimizer.step(closure).item() / factor for _ in range(30)])
    assert paths[0] == paths[1]


def test_exact_functions_are_fitted_to_the_rounding():
    """torch's own refuses to learn curvature here and comes to a stop."""
    losses = {}
    for name, kind in {"ours": LBFGS, "torch's": torch.optim.LBFGS}.items():
        kan = KAN([2, 1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        teacher = KAN([2, 1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        x = torch.from_numpy(X)
        y = teacher(x).detach()
        optimizer = kind(kan.parameters(), **OPTIONS | {"max_iter": 1, "max_eval": 25})
        closure = closure_of(optimizer, lambda kan=kan, x=x, y=y: (kan(x) - y).pow(2).mean(), [])
        for _ in range(300):
            losses[name] = optimizer.step(closure).item()
    assert losses["ours"] < 1e-20 < 1e-16 < losses["torch's"]


def test_gradient_after_a_step_is_that_of_the_accepted_point():
    parameters, loss = network()
    optimizer = LBFGS(parameters)
    for _ in range(3):
        optimizer.step(closure_of(optimizer, loss, []))
        left = [p.grad.clone() for p in parameters]
        expected = torch.autograd.grad(loss(), parameters)
        for mine, theirs in zip(left, expected, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_stationary_point_stays_with_its_loss():
    point = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer, evaluations = LBFGS([point]), []
    closure = closure_of(optimizer, lambda: (point**2).sum() + 3, evaluations)
    for _ in range(3):
        count = len(evaluations)
        assert optimizer.step(closure).item() == 3
        assert len(evaluations) == count + 1  # the caller reads the loss off its closure
    assert (point == 0).all()


def test_iterations_after_the_optimum_do_no_harm():
    settings = STEPS | {"hidden_layer_sizes": (), "learning_rate": "auto", "solver": "lbfgs"}
    settings |= {"max_iter": 150, "tol": 0, "n_iter_no_change": 150}
    constant = KANRegressor(**settings).fit(X, np.full(60, 7.0))
    np.testing.assert_allclose(constant.predict(X), 7, atol=1e-3)
    assert constant.loss_ == constant.best_loss_


def test_change_of_the_parameters_between_steps_is_seen():
    parameters, loss = network()
    optimizer, evaluations = LBFGS(parameters), []
    closure = closure_of(optimizer, loss, evaluations)
    optimizer.step(closure)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1)
    moved, count = loss().item(), len(evaluations)
    optimizer.step(closure)
    assert evaluations[count] == moved


def test_estimator_with_lbfgs_falls_every_iteration_and_beats_adamw_on_smooth_data():
    settings = STEPS | {"max_iter": 60, "learning_rate": "auto"}
    by_lbfgs = KANRegressor(**settings, solver="lbfgs").fit(X, Y)
    assert (np.diff(by_lbfgs.loss_curve_) <= 0).all()
    assert by_lbfgs.loss_ < 0.1 * KANRegressor(**settings).fit(X, Y).loss_


@pytest.mark.parametrize("estimator", [KANClassifier, MetaKANClassifier, MetaKANRegressor])
def test_weights_count_like_repeated_rows_from_every_point_on_the_way(estimator):
    """To the rounding: two whole runs drift apart, since line searches multiply it."""
    rng = np.random.default_rng(0)
    X, y, weight = rng.random((15, 30)), rng.integers(0, 3, 15), rng.integers(0, 5, 15)
    rows = np.repeat(np.arange(15), weight)
    on_the_way = estimator(solver="lbfgs", weight_decay=1e-4, random_state=0, warm_start=True)
    for iterations in (5, 10, 20):
        on_the_way.set_params(max_iter=iterations).fit(X, y, sample_weight=weight)
        weighted, repeated = (copy.deepcopy(on_the_way).set_params(max_iter=1) for _ in range(2))
        outputs = [
            model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)
            for model in (weighted.fit(X, y, sample_weight=weight), repeated.fit(X[rows], y[rows]))
        ]
        np.testing.assert_allclose(*outputs, rtol=0, atol=1e-13 * np.abs(outputs[0]).max())
        np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-13)


def test_lbfgs_counts_iterations_on_the_full_batch():
    class Batches(Callback):
        sizes = []

        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            Batches.sizes.append(len(batch[0]))

    settings = STEPS | {"batch_size": 7, "max_iter": 5, "learning_rate": "auto"}
    model = KANRegressor(**settings, solver="lbfgs", callbacks=[Batches()]).fit(X, Y)
    assert model.n_iter_ == 5
    assert Batches.sizes == [60] * 5


# --- weight decay ---------------------------------------------------------------------


def parameters_of(model):
    return {name: p.detach().clone() for name, p in model.module_.named_parameters()}


def penalty_of(model):
    return sum(p.detach().pow(2).sum().item() for p in model.module_.parameters())


def start_of(estimator, **settings):
    """The parameters before the first step."""
    still = STEPS | {"max_iter": 1, "learning_rate": 1e-300}
    return parameters_of(estimator(**still | settings).fit(X, Y))


@pytest.mark.parametrize(
    ("estimator", "setting"), [(KANRegressor, {}), (MetaKANRegressor, META)], ids=["KAN", "Meta"]
)
def test_adamw_decays_every_parameter_apart_from_its_gradient(estimator, setting):
    once = STEPS | {"max_iter": 1} | setting
    plain = parameters_of(estimator(**once).fit(X, Y))
    decayed = parameters_of(estimator(**once | {"weight_decay": 0.5}).fit(X, Y))
    for name, value in start_of(estimator, **setting).items():
        torch.testing.assert_close(
            decayed[name] - plain[name], -0.01 * 0.5 * value, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("estimator", [KANRegressor, KANClassifier])
def test_lbfgs_adds_half_the_squares_to_the_loss(estimator):
    y = Y if estimator is KANRegressor else Y > 0.3
    settings = STEPS | {"solver": "lbfgs", "learning_rate": "auto", "max_iter": 30}
    free = estimator(**settings).fit(X, y)
    held = estimator(**settings | {"weight_decay": 0.01}).fit(X, y)
    assert penalty_of(held) < penalty_of(free)
    if estimator is KANRegressor:
        error = held.target_scaler_.transform(np.c_[Y, held.predict(X)])
        expected = np.diff(error).__pow__(2).mean() + 0.5 * 0.01 * penalty_of(held)
        assert held.loss_ == pytest.approx(expected, rel=1e-9)


# --- parameter groups -----------------------------------------------------------------


def rates_of(model):
    """Learning rate of every parameter, by name."""
    names = {id(p): name for name, p in model.module_.named_parameters()}
    return {
        names[id(parameter)]: group["lr"]
        for group in model.net_.optimizer_.param_groups
        for parameter in group["params"]
    }


def is_prompt(name):
    return name.endswith((".prompts", ".edge_scale"))


def is_meta(name):
    return ".meta_learner." in name


def test_every_parameter_is_in_exactly_one_group_with_its_rate():
    rates = {"learning_rate": 0.1, "prompt_learning_rate": 0.02, "meta_learning_rate": 0.003}
    model = MetaKANRegressor(**STEPS | META | rates, net_params={"module__bias": True}).fit(X, Y)
    by_name = rates_of(model)
    assert by_name.keys() == dict(model.module_.named_parameters()).keys()
    assert {is_prompt(name) or is_meta(name) for name in by_name} == {True, False}
    for name, rate in by_name.items():
        expected = 0.02 if is_prompt(name) else 0.003 if is_meta(name) else 0.1
        assert rate == expected, name


def test_rates_that_are_not_given_follow_the_learning_rate():
    slow, fast = (
        rates_of(MetaKANRegressor(**STEPS | META | {"learning_rate": rate}).fit(X, Y))
        for rate in (1e-3, 2e-3)
    )
    for name in slow:
        assert fast[name] == pytest.approx(2 * slow[name])
    # One given, the other follows.
    given = STEPS | META | {"learning_rate": 2e-3, "prompt_learning_rate": 0.5}
    by_name = rates_of(MetaKANRegressor(**given).fit(X, Y))
    for name in fast:
        assert by_name[name] == (0.5 if is_prompt(name) else fast[name])


@pytest.mark.parametrize("still", ["prompt_learning_rate", "meta_learning_rate"])
def test_group_of_rate_nearly_zero_stands_still_and_the_other_moves(still):
    settings = STEPS | META | {still: 1e-300}
    start, end = (
        start_of(MetaKANRegressor, **META),
        parameters_of(MetaKANRegressor(**settings).fit(X, Y)),
    )
    belongs = is_prompt if still == "prompt_learning_rate" else is_meta
    for name in start:
        assert torch.equal(start[name], end[name]) == belongs(name), name


def test_learning_rate_may_have_nothing_of_its_own():
    # All parameters of a MetaKAN without biases are prompts or of the meta-learner.
    rates = {"prompt_learning_rate": 0.01, "meta_learning_rate": 0.01}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Training stopped at max_iter")
        one, other = (
            MetaKANRegressor(**STEPS | META | rates | {"learning_rate": rate}).fit(X, Y)
            for rate in (1e-3, 10.0)
        )
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


def test_user_s_groups_come_first_and_the_others_stay():
    groups = [("layers.0.*prompts", {"lr": 7e-5}), ("*bias", {"weight_decay": 0.0})]
    net_params = {"optimizer__param_groups": groups, "module__bias": True}
    settings = STEPS | META | {"prompt_learning_rate": 0.02, "meta_learning_rate": 0.003}
    model = MetaKANRegressor(**settings | {"weight_decay": 0.1}, net_params=net_params).fit(X, Y)
    by_name = rates_of(model)
    assert by_name["layers.0.source.prompts"] == 7e-5
    assert by_name["layers.1.source.prompts"] == 0.02
    assert by_name["layers.0.source.edge_scale"] == 0.02
    decays = [group["weight_decay"] for group in model.net_.optimizer_.param_groups]
    assert sorted(set(decays)) == [0.0, 0.1]


@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANRegressor])
def test_user_s_pattern_that_matches_nothing_raises(estimator):
    net_params = {"optimizer__param_groups": [("*", {"lr": 1.0}), ("promts", {"lr": 0.1})]}
    with pytest.raises(ValueError, match=r"'promts' matches no parameter.*layers\.0\.source"):
        estimator(**STEPS, net_params=net_params).fit(X, Y)


def test_adamw_is_fused():
    assert KANRegressor(**STEPS).fit(X, Y).net_.optimizer_.defaults["fused"]


# --- net_params -----------------------------------------------------------------------

TAKEN = {
    "lr": "learning_rate",
    "optimizer__lr": "learning_rate",
    "optimizer": "solver",
    "optimizer__weight_decay": "weight_decay",
    "max_epochs": "max_iter",
    "batch_size": "batch_size",
    "device": "device",
    "verbose": "verbose",
    "callbacks": "callbacks",
    "warm_start": "warm_start",
    "module__seed": "random_state",
    "module__dtype": "precision",
    "module__layer_sizes": "hidden_layer_sizes",
    "module__grid_size": "grid_size",
    "module__degree": "degree",
    "module__knots": "knots",
    "module__extrapolation": "extrapolation",
    "module__dropout": "dropout",
    "train_split": "early_stopping",
    "criterion": "loss",
    "criterion__delta": "loss",
    "iterator_train__shuffle": "batch_size",
    "callbacks__print_log": "callbacks",
    "module": "sklearn_metakan.nn",
    "iterator_train": "batch_size",
    "iterator_valid": "working_memory",
    "dataset": "tensors",
    "history": "net_.history",
    "predict_nonlinearity": "predict",
}
TAKEN_META = {
    f"module__{name}": name
    for name in (
        "prompt_dim",
        "meta_hidden_dim",
        "meta_activation",
        "edge_scale",
        "n_meta_learners",
    )
}


@pytest.mark.parametrize(("key", "name"), (TAKEN | TAKEN_META).items())
def test_taken_keys_raise_and_name_what_to_use(key, name):
    model = MetaKANRegressor(**STEPS).set_params(**{f"net__{key}": 1})
    with pytest.raises(ValueError) as error:
        model.fit(X, Y)
    assert repr(key) in str(error.value)
    assert name in str(error.value)
    assert not hasattr(model, "net_")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer__betaz", 1),
        ("module__width", 1),
        ("nonsense", 1),
        ("module__init", "nonsense"),
        ("optimizer__betas", (2.0, 0.9)),
    ],
)
def test_unknown_keys_and_bad_values_are_shown_with_net_params(key, value):
    with pytest.raises(ValueError) as error:
        KANRegressor(**STEPS, net_params={key: value}).fit(X, Y)
    assert "net_params" in str(error.value)
    assert repr(key) in str(error.value)


def test_keys_that_are_no_text():
    with pytest.raises(ValueError, match=r"net_params.*3"):
        KANRegressor(**STEPS, net_params={3: 4}).fit(X, Y)


def test_net_params_reach_optimizer_and_module():
    net_params = {"optimizer__betas": (0.5, 0.6), "module__bias": True}
    model = KANRegressor(**STEPS, net_params=net_params).fit(X, Y)
    assert all(group["betas"] == (0.5, 0.6) for group in model.net_.optimizer_.param_groups)
    assert any(name.endswith("bias") for name in parameters_of(model))
    plain, paper = (
        MetaKANRegressor(**STEPS | META, net_params=net_params).fit(X, Y).predict(X)
        for net_params in (None, {"module__init": "paper"})
    )
    assert np.abs(paper - plain).max() > 1e-6


def test_set_params_and_get_params_show_each_key():
    model = KANRegressor(**STEPS)
    assert not [name for name in model.get_params() if name.startswith("net__")]
    model.set_params(net__optimizer__betas=(0.5, 0.6), grid_size=4)
    model.set_params(net__module__bias=True)
    params = model.get_params(deep=True)
    assert params["net__optimizer__betas"] == (0.5, 0.6)
    assert params["net__module__bias"] is True
    assert params["grid_size"] == 4
    assert model.net_params == {"optimizer__betas": (0.5, 0.6), "module__bias": True}
    assert not [name for name in model.get_params(deep=False) if name.startswith("net__")]
    assert clone(model).get_params() == params
    pipeline = make_pipeline(model)
    pipeline.set_params(kanregressor__net__optimizer__betas=(0.7, 0.8))
    assert pipeline.get_params()["kanregressor__net__optimizer__betas"] == (0.7, 0.8)


def test_the_dicts_and_callbacks_given_are_left_as_they_were():
    class Marks(Callback):
        def on_train_begin(self, net, **kwargs):
            self.marked_ = True

    groups = [("*", {"lr": 0.02})]
    given, callbacks = {"optimizer__param_groups": groups}, [Marks(), ("named", Marks())]
    before = copy.deepcopy(given)
    model = KANRegressor(**STEPS, net_params=given, callbacks=callbacks)
    model.set_params(net__optimizer__betas=(0.5, 0.6))
    assert model.net_params is not given
    model.fit(X, Y).partial_fit(X, Y)
    assert given == before
    assert model.net_params == before | {"optimizer__betas": (0.5, 0.6)}
    assert not hasattr(callbacks[0], "marked_")
    assert not hasattr(callbacks[1][1], "marked_")
    assert model.callbacks is callbacks
    assert len(callbacks) == 2


def test_an_interrupted_line_search_leaves_the_point_before():
    point, calls = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64)), []
    optimizer = LBFGS([point])

    def loss():
        calls.append(point.detach().clone())
        if len(calls) == 12:
            raise KeyboardInterrupt
        return valley(point)

    accepted = []
    with pytest.raises(KeyboardInterrupt):
        while True:
            optimizer.step(closure_of(optimizer, loss, []))
            accepted.append(point.detach().clone())
    assert len(accepted) > 2 and not torch.equal(calls[-1], accepted[-1])
    assert torch.equal(point, accepted[-1])


@pytest.mark.parametrize("name", ["prompt_learning_rate", "meta_learning_rate"])
def test_rates_of_groups_contradict_lbfgs(name):
    model = MetaKANRegressor(solver="lbfgs", **{name: 0.1})
    with pytest.raises(ValueError, match=f"{name}=0.1 contradicts solver='lbfgs'"):
        model.fit(X, Y)
