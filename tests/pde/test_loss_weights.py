"""Weights of losses by name: of terms by their gradients, of points by their residuals."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver, TrialFunction
from sklearn_metakan.pde.physics.attention import Attention
from sklearn_metakan.pde.physics.physics import EQUATION, Physics
from sklearn_metakan.pde.solve.weights import BY_POINT, RENEWED, measured

W, B = 0.7, -0.4  # of the line u = W x + B


def growth(x, u):
    return u.d(0) + u.value


@pytest.fixture
def line():
    """A line with a first-order equation and an end, on fixed points."""
    network = nn.Linear(1, 1, dtype=torch.float64)
    with torch.no_grad():
        network.weight.fill_(W)
        network.bias.fill_(B)
    physics = Physics(TrialFunction(network), growth, {"end": Dirichlet(1.0)}, {})
    inside = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    ends = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)
    batch = {EQUATION: [(inside, None)], "end": [(ends, None)]}
    for name, sets in batch.items():
        physics.probe(name, sets)
    return physics, batch, inside[:, 0], ends[:, 0]


def gradients(x, y):
    """Of both losses by W and B, by hand."""
    r, m = W + W * x + B, W * y + B - 1
    of_equation = torch.stack([(2 * r * (1 + x)).mean(), (2 * r).mean()])
    return of_equation, torch.stack([(2 * m * y).mean(), (2 * m).mean()])


def test_norms_of_gradients(line):
    physics, batch, x, y = line
    first, second = (float(g.norm()) for g in gradients(x, y))
    found = measured("balanced", physics, (batch, 0))
    assert found == pytest.approx({EQUATION: first, "end": second, "": first + second})


def test_largest_gradient_of_the_equation_over_the_mean_of_a_condition(line):
    physics, batch, x, y = line
    first, second = gradients(x, y)
    top = float(first.abs().max())
    found = measured("gradient", physics, (batch, 0))
    assert found == pytest.approx({EQUATION: top, "end": float(second.abs().mean()), "": top})


def test_traces_of_tangent_kernels(line):
    """r changes by (1 + x, 1) with (W, B), and m by (y, 1)."""
    physics, batch, x, y = line
    first, second = float(((1 + x) ** 2 + 1).mean()), float((y**2 + 1).mean())
    found = measured("ntk", physics, (batch, 0))
    assert found == pytest.approx({EQUATION: first, "end": second, "": first + second})


LEFT = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)  # |residual| at three points
FIRST = {
    "rba": 0.999 + 0.01 * LEFT / 2,
    "vrba": 0.999 + 0.01 * 2 ** (LEFT / 2 - 1),
    "self-adaptive": 1 + 0.01 * LEFT**2 / (LEFT**2).mean(),
}


@pytest.mark.parametrize("rule", BY_POINT)
def test_points_with_more_left_weigh_more(rule):
    attention = Attention(rule)
    assert attention.weights("residual", LEFT**2).tolist() == [1, 1, 1]
    attention.follow()
    wanted = FIRST[rule] ** 2 / (FIRST[rule] ** 2).mean()
    torch.testing.assert_close(attention.weights("residual", LEFT**2), wanted)
    for _ in range(2000):
        attention.follow()
    weights = attention.weights("residual", LEFT**2)
    assert float(weights.mean()) == pytest.approx(1)
    assert weights[0] < weights[2] < weights[1]
    assert weights.isfinite().all()
    attention.start()
    assert attention.weights("residual", LEFT**2).tolist() == [1, 1, 1]


def solver(**settings):
    given = {"max_iter": 200, "hidden_layer_sizes": (4,), "n_interior": 40, "n_boundary": 2}
    return KANPDESolver(
        lambda x, u: u.d(0, 0) + 1, domain=Interval(0, 1), conditions=[Dirichlet(0.0)],
        random_state=0, device="cpu", **given | settings,
    )  # fmt: skip


@pytest.mark.parametrize("rule", [*RENEWED, *BY_POINT])
def test_every_rule_solves(rule):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = solver(loss_weights=rule, max_iter=100, lm_iter=20).fit()
    assert abs(float(model.predict([[0.5]])[0]) - 0.125) < 1e-4
    assert {*model.loss_weights_} == {"residual", "dirichlet"}
    assert all(np.isfinite(w) and w > 0 for w in model.loss_weights_.values())
    if rule == "gradient":
        assert model.loss_weights_["residual"] == 1
    attention = model.net_.module_.attention
    assert attention is None or not attention.strengths  # nothing of it stays


@pytest.mark.parametrize("rule", BY_POINT)
def test_a_loss_is_weighed_by_point_in_training_alone(rule):
    """L-BFGS, on points that are new to it, minimises the losses as they are."""
    settings = {"max_iter": 0, "lbfgs_iter": 20}
    one, other = (solver(loss_weights=w, **settings).fit() for w in (rule, "auto"))
    assert one.loss_curve_ == other.loss_curve_
    one, other = (
        solver(loss_weights=w, resample_every=None, max_iter=100).fit() for w in (rule, "auto")
    )
    assert one.loss_curve_ != other.loss_curve_
    assert one._physics.squared("dirichlet", LEFT) == LEFT.square().mean()


@pytest.mark.parametrize("rule", ["vrba", "ntk"])
def test_a_fit_that_was_killed_goes_on_with_its_weights(rule, tmp_path):
    settings = {"max_iter": 200, "loss_weights": rule, "checkpoint_every": (1, 0.0)}
    expected = solver(**settings).fit().predict([[0.3]])
    model = solver(**settings, checkpoint_dir=tmp_path).fit()
    *_, newest = sorted(tmp_path.glob("*.safetensors"))
    newest.unlink()
    model = clone(model).fit(resume=True)
    np.testing.assert_array_equal(model.predict([[0.3]]), expected)


def test_kernels_need_gradients_of_single_points():
    def elsewhere(x, u):
        return u.d(0, 0) + 1 + 0 * u(x).sum()

    with pytest.raises(ValueError, match="loss_weights='ntk' needs every point's own gradients"):
        solver(loss_weights="ntk").set_params(residual=elsewhere).fit()


def test_errors_by_condition_are_in_the_history():
    model = solver(loss_weights={"dirichlet": 4.0}).fit()
    for name in ("residual", "dirichlet"):
        np.testing.assert_allclose(model.history_[name] ** 2, model.loss_terms_[name])
    np.testing.assert_array_equal(model.history_["step"], [100, 200])
    assert model.loss_weights_ == {"residual": 1.0, "dirichlet": 4.0}


def test_the_bar_shows_errors_by_condition(capsys):
    model = solver(verbose=1).fit()
    shown = capsys.readouterr().err
    for name in ("residual", "dirichlet"):
        assert f"{name}={model.history_[name][-1]:.2g}" in shown
