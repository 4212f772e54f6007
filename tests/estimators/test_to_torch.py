"""to_torch: a plain module that predicts what the estimator predicts, and stands alone."""

import copy
import io

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.nn import MetaCoefficients

REGRESSORS, CLASSIFIERS = [KANRegressor, MetaKANRegressor], [KANClassifier, MetaKANClassifier]
RNG = np.random.default_rng(0)
# Columns of every kind: even, skewed, few values, constant, far from zero.
X = np.column_stack(
    [
        RNG.normal(size=120),
        RNG.lognormal(2, 2, size=120),
        RNG.integers(0, 3, size=120),
        np.full(120, 5.0),
        1e6 + RNG.normal(size=120),
    ]
)
BEYOND = X + RNG.normal(size=X.shape) * np.array([3, 100, 3, 1, 3])
Y = X[:, 0] + np.log(X[:, 1])
POSITIVE = np.exp(0.3 * X[:, 0])
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")


def check(model, table, rtol=1e-9, atol=1e-12):
    module = model.to_torch()
    expected = model.predict_proba(table) if hasattr(model, "classes_") else model.predict(table)
    with torch.no_grad():
        found = module(torch.from_numpy(table))
    assert found.numpy().dtype == expected.dtype
    assert tuple(found.shape) == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=rtol, atol=atol)
    return module


# --- the same predictions -------------------------------------------------------------


@pytest.mark.parametrize("estimator", REGRESSORS)
@pytest.mark.parametrize(
    ("settings", "target"),
    [
        ({}, Y),
        ({}, np.column_stack([Y, 3 - Y])),
        ({}, 1e7 + Y),
        ({"scale_target": False}, Y),
        ({"loss": "poisson"}, POSITIVE),
        ({"loss": "huber"}, Y),
        ({"dropout": 0.3, "hidden_layer_sizes": (4, 4)}, Y),
        ({"hidden_layer_sizes": ()}, Y),
        ({"net_params": {"module__bias": True}}, Y),
        *(({"scale_inputs": kind}, Y) for kind in ("minmax", "standard", "quantile")),
        ({"knots": "quantile", "extrapolation": "base"}, Y),
    ],
)
def test_regressors_give_the_target_in_its_units(estimator, settings, target):
    model = estimator(**SMALL | settings).fit(X, target)
    for table in (X, BEYOND, X[:1]):
        check(model, table)


def test_unscaled_inputs():
    table = RNG.uniform(-1, 1, size=(60, 3))
    check(KANRegressor(**SMALL, scale_inputs=None).fit(table, table[:, 0]), 2 * table)


@pytest.mark.parametrize("estimator", CLASSIFIERS)
@pytest.mark.parametrize("classes", [2, 4])
def test_classifiers_give_probabilities(estimator, classes):
    label = np.digitize(Y, np.quantile(Y, np.arange(1, classes) / classes))
    model = estimator(**SMALL).fit(X, np.array(list("abcd"))[label])
    module = check(model, BEYOND)
    probabilities = module(torch.from_numpy(X))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(X), dtype=torch.float64))
    assert (model.classes_[probabilities.argmax(1).numpy()] == model.predict(X)).all()


def test_probabilities_are_positive_where_a_class_is_hopeless():
    model = KANClassifier(**SMALL).fit(X, Y > 2)
    with torch.no_grad():
        for parameter in model.module_.parameters():
            parameter.mul_(1e6)
    module = check(model, X)
    assert (module(torch.from_numpy(X)) > 0).all()


@pytest.mark.parametrize("settings", [{}, {"meta_hidden_dim": 0, "edge_scale": False}], ids=str)
@pytest.mark.parametrize("shared", ["auto", "layer", 2])
def test_every_meta_learner(settings, shared):
    settings = settings | {"n_meta_learners": shared, "hidden_layer_sizes": (5, 3)}
    check(MetaKANRegressor(**SMALL | settings).fit(X, Y), X)


@pytest.mark.parametrize("estimator", [*REGRESSORS, *CLASSIFIERS])
def test_single_precision_is_scaled_in_double_as_in_predict(estimator):
    table = X.astype(np.float32)
    model = estimator(**SMALL).fit(table, Y if estimator in REGRESSORS else Y > 2)
    assert next(model.to_torch().network.parameters()).dtype == torch.float32
    check(model, table, rtol=1e-4, atol=1e-5)
    check(model, table.astype(np.float64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["auto", "minmax", "standard", "quantile", None])
def test_scaled_inputs_are_the_scaler_s(kind):
    model = KANRegressor(**SMALL, scale_inputs=kind).fit(X / X.max(axis=0), Y)
    scaler, module = model.input_scaler_, model.to_torch().inputs
    at_points = np.zeros((300, X.shape[1]))
    for column, points in zip(scaler.kept_, scaler.points_, strict=True):
        at_points[:, column] = np.resize(points, 300)
    for table in (X / X.max(axis=0), BEYOND, at_points):
        np.testing.assert_array_equal(
            module(torch.from_numpy(table)).numpy(), scaler.transform(table)
        )


# --- a module like any other ----------------------------------------------------------


@pytest.fixture(scope="module", params=[KANRegressor, MetaKANRegressor, MetaKANClassifier])
def model(request):
    target = Y if request.param is not MetaKANClassifier else Y > 2
    return request.param(**SMALL).fit(X, target)


def test_nothing_is_generated_and_it_is_ready_for_use(model):
    module = model.to_torch()
    assert isinstance(module, nn.Module)
    assert not module.training
    assert not [part for part in module.modules() if isinstance(part, MetaCoefficients)]


def test_state_goes_through_a_file_into_another_module(model):
    module, other, x = model.to_torch(), model.to_torch(), torch.from_numpy(X)
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.data.zero_()
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


def test_later_training_and_changes_do_not_reach_it(model):
    model, x = copy.deepcopy(model), torch.from_numpy(X)
    module = model.to_torch()
    before = module(x)
    model.partial_fit(X, Y if hasattr(model, "n_outputs_") else Y > 2)
    with torch.no_grad():
        for parameter in model.module_.parameters():
            parameter.zero_()
    assert torch.equal(module(x), before)


def test_changes_of_the_module_do_not_reach_the_estimator(model):
    before = model.predict(X)
    module = model.to_torch()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    np.testing.assert_array_equal(model.predict(X), before)


def test_gradients_with_respect_to_inputs_and_weights(model):
    module = model.to_torch()
    x = torch.from_numpy(BEYOND[:5]).requires_grad_()  # X lies on the scaling's break points
    assert torch.autograd.gradcheck(module, x, eps=1e-5, atol=1e-4)
    module(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_trains_on_as_a_module():
    model = MetaKANRegressor(**SMALL).fit(X, Y)
    module, x, y = model.to_torch(), torch.from_numpy(X), torch.from_numpy(Y)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append((module(x) - y).pow(2).mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def test_other_dtypes_of_the_module(model):
    module = model.to_torch()
    expected = module(torch.from_numpy(X))
    found = module.float()(torch.from_numpy(X).float())
    assert found.dtype == torch.float32
    # A column at a million keeps two digits in single precision.
    np.testing.assert_allclose(found.detach(), expected.detach(), atol=0.2)


@pytest.mark.parametrize("estimator", [*REGRESSORS, *CLASSIFIERS])
def test_before_fit(estimator):
    with pytest.raises(NotFittedError):
        estimator().to_torch()


@pytest.mark.gpu
@pytest.mark.parametrize("estimator", [*REGRESSORS, *CLASSIFIERS])
def test_on_a_card(estimator):
    table = X.astype(np.float32)
    target = Y if estimator in REGRESSORS else Y > 2
    model = estimator(**SMALL, device="cuda", precision="float32").fit(table, target)
    module = model.to_torch()
    found = module(torch.from_numpy(table).cuda())
    assert found.is_cuda
    expected = model.predict(table) if estimator in REGRESSORS else model.predict_proba(table)
    np.testing.assert_allclose(found.detach().cpu(), expected, rtol=1e-3, atol=1e-4)
    on_cpu = module.cpu()(torch.from_numpy(table))
    np.testing.assert_allclose(on_cpu.detach(), expected, rtol=1e-3, atol=1e-4)
