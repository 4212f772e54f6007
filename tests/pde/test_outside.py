"""Points outside the domain at predict; observations in batches."""

import warnings

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import Ball, Box, Dirichlet, Initial, Interval, KANPDESolver
from sklearn_metakan.pde.physics.physics import DATA
from sklearn_metakan.pde.solve.evaluate import report_outside

QUICK = {"hidden_layer_sizes": (3,), "n_interior": 30, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def bump():
    return KANPDESolver(
        lambda x, u: u.d(0, 0) + 1, domain=Interval(0, 2), conditions=[Dirichlet(0.0)],
        n_boundary=2, max_iter=0, lm_iter=15, **QUICK,
    ).fit()  # fmt: skip


@pytest.mark.parametrize("method", ["predict", "predict_derivative", "predict_residual"])
def test_points_outside_are_counted_and_the_farthest_is_named(bump, method):
    X = [[0.5], [-1.0], [2.5], [1.0]]
    told = (
        r"2 of 4 points lie outside the domain, the farthest, \[-1.0\] in row 1, 0.5 of its width"
    )
    with pytest.warns(UserWarning, match=told) as caught:
        getattr(bump.set_params(outside="warn"), method)(X)
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match=f"{told}.*outside='error' forbids"):
        getattr(bump.set_params(outside="error"), method)(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(getattr(bump.set_params(outside="ignore"), method)(X)) == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_boundary_is_inside_in_every_dtype(dtype):
    """0.1 is more as float32 than as float64."""
    far = Box([0.1, 1000.1], [0.7, 1001.3])
    report_outside(far, np.array([[0.1, 1000.1], [0.7, 1001.3]], dtype), refuse=True)
    with pytest.raises(ValueError, match="1 of 1 points lie outside"):
        report_outside(far, np.array([[0.1, 1001.5]], dtype), refuse=True)


def test_holes_are_outside():
    ring = Ball([0, 0], 2.0) - Ball([0, 0], 1.0)
    with pytest.raises(ValueError, match=r"1 of 2 points.*in row 1, within its bounds"):
        report_outside(ring, np.array([[1.5, 0.0], [0.5, 0.0]]), refuse=True)


def test_parts_of_time_tell_of_all_points_together():
    model = KANPDESolver(
        lambda x, u: u.dt() + u.value, domain=Interval(0, 2), variables=("t",),
        conditions=[Initial(1.0)], windows=2, max_iter=0, lm_iter=10, **QUICK,
    ).fit()  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict([[0.0], [0.9], [1.1], [2.0]])
    with pytest.warns(UserWarning, match="2 of 3 points lie outside") as caught:
        model.predict([[-1.0], [1.0], [3.0]])
    assert len(caught) == 1


def source(x, u, k):
    return u.d(0, 0) + k


def observed(**settings):
    """u = x (1 - x) at 40 points, the first 20 of them wrong and without weight."""
    X = np.linspace(0.02, 0.98, 40)[:, None]
    y, weight = X[:, 0] * (1 - X[:, 0]), np.repeat([0.0, 1.0], 20)
    y[:20] += 5
    settings = {"max_iter": 100, "lm_iter": 30} | settings
    model = KANPDESolver(
        source,
        domain=Interval(0, 1),
        pde_params={"k": 1.0},
        n_observations=8,
        **QUICK | {"n_interior": 120} | settings,
    )
    return model.fit(X, y, sample_weight=weight), X, y


def test_observations_in_batches_find_a_constant():
    model, X, _ = observed(resample_every=5)
    assert model.pde_params_["k"] == pytest.approx(2.0, abs=0.1)
    assert np.abs(model.predict(X) - X[:, 0] * (1 - X[:, 0])).max() < 1e-2


def test_batches_are_drawn_anew_and_each_value_stays_with_its_point():
    model, X, y = observed(max_iter=1, lm_iter=0)
    physics = model.net_.module_
    collocation = model._collocation({"interior": 5, DATA: 8}, 0)
    seen = set()
    for _ in range(40):
        ((points, numbers),) = collocation.draw()[DATA]
        assert len({*numbers.tolist()}) == 8
        np.testing.assert_allclose(points.numpy(), X[numbers], rtol=1e-6)
        away = model.predict(X)[numbers] - y[numbers]
        wanted = (np.where(numbers < 20, 0.0, 2.0) * away**2).mean()
        with torch.no_grad():
            loss = float(physics.squared(DATA, physics.misfit(DATA, [(points, numbers)])))
        assert loss == pytest.approx(wanted, rel=1e-4)
        seen |= {*numbers.tolist()}
    assert seen == {*range(40)}
    ((points, numbers),) = model._collocation({"interior": 5, DATA: 99}, 0).draw()[DATA]
    assert numbers.tolist() == [*range(40)]
