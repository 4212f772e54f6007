"""Long times in parts, positive constants, and what trains by itself."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sklearn_metakan import load
from sklearn_metakan.pde import (
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    Positive,
    SpaceTime,
)

QUICK = {"hidden_layer_sizes": (6,), "n_interior": 80, "random_state": 0, "device": "cpu"}
LEAST_SQUARES = QUICK | {"max_iter": 0, "lm_iter": 12}


def oscillator(x, u):
    return u[0].dt() - u[1].value, u[1].dt() + u[0].value


START = [Initial(0.0, output=0, name="place"), Initial(1.0, output=1, name="speed")]


def cycles(windows, **settings):
    given = {"residual": oscillator, "domain": Interval(0, 12), "conditions": START}
    given |= {"n_outputs": 2, "variables": ("t",), "windows": windows}
    return KANPDESolver(**given | LEAST_SQUARES | settings).fit()


def test_many_cycles_are_followed_in_parts():
    model = cycles(6)
    t = np.linspace(0, 12, 49)[:, None]
    exact = np.concatenate([np.sin(t), np.cos(t)], 1)
    np.testing.assert_allclose(model.predict(t), exact, atol=0.02)
    np.testing.assert_allclose(model.predict_derivative(t, "t"), exact[:, ::-1] * [1, -1], atol=0.1)
    assert model.predict_residual(t).shape == (49, 2) and -0.1 < model.score() <= 0
    assert len(model.windows_) == 6 and model.domain_ == Interval(0, 12)
    assert model.n_iter_ == sum(part.n_iter_ for part in model.windows_)
    assert model.n_parameters_ == 6 * model.windows_[0].n_parameters_
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.predict(t[::-1]), model.predict(t)[::-1])
    assert len(repr(clone(model))) < 2000
    assert not hasattr(model.set_params(windows=1).fit(), "windows_")


def test_parts_meet_where_they_join():
    def wave(x, u):
        return u.d("t", "t") - u.d("x", "x")

    conditions = [Initial(lambda x: (torch.pi * x[:, 0]).sin()), Initial(order=1), Dirichlet(0.0)]
    model = KANPDESolver(
        wave, domain=SpaceTime(Interval(0, 1), 0, 1), conditions=conditions, variables=("x", "t"),
        windows=2, n_boundary=20, n_initial=20, **LEAST_SQUARES | {"n_interior": 150},
    ).fit()  # fmt: skip
    x = np.linspace(0, 1, 9)
    at = [np.stack([x, np.full_like(x, 0.5 + away)], 1) for away in (-1e-9, 1e-9)]
    for order in ((), ("t",)):
        before, after = (
            model.predict_derivative(points, order) if order else model.predict(points)
            for points in at
        )
        assert np.sqrt(np.square(before - after).mean()) < 0.1 * max(1, np.abs(before).max())
    assert [part.domain_.t1 for part in model.windows_] == [0.5, 1.0]


REFUSED = {
    "none at all": ({"conditions": None}, "needs Initial conditions"),
    "no initial condition": ({"conditions": [Dirichlet(0.0)]}, "needs Initial conditions"),
    "no time": (
        {"variables": ("x",)},
        r"needs a SpaceTime, or an Interval with variables=\('t',\)",
    ),
    "an ansatz": ({"ansatz": lambda x, net: net}, "ansatz is about all of them"),
    "constants": ({"pde_params": {"k": 1.0}}, "pde_params is about all of them"),
    "warm start": ({"warm_start": True}, "warm_start is about all of them"),
    "time and checkpoints": ({"checkpoint_dir": "x", "time_limit": 9.0}, "beside time_limit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_about_all_times_is_refused(case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        cycles(3, **settings)


def test_parts_are_in_files(tmp_path):
    model, t = cycles(3), np.linspace(0, 12, 31)[:, None]
    model.save(tmp_path / "model.safetensors")
    restored = load(tmp_path / "model.safetensors", residual=oscillator)
    np.testing.assert_array_equal(restored.predict(t), model.predict(t))
    assert restored.predict_residual(t).shape == (31, 2)
    assert [part.domain_ for part in restored.windows_] == [p.domain_ for p in model.windows_]
    value = restored.windows_[2].conditions[0].value  # where the part before ended
    assert value.solver is restored.windows_[1]
    restored.save(tmp_path / "again.safetensors")
    again = load(tmp_path / "again.safetensors", residual=oscillator)
    np.testing.assert_array_equal(again.predict(t), model.predict(t))


def test_parts_go_on_from_their_checkpoints(tmp_path):
    expected = cycles(3).predict([[1.0], [6.0], [11.0]])
    settings = {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    solver = cycles(3, **settings)
    folders = sorted(tmp_path.iterdir())
    assert [folder.name for folder in folders] == ["part-1", "part-2", "part-3"]
    *_, newest = sorted(folders[1].iterdir())
    newest.unlink()  # as if it had been killed in the second part
    shutil.rmtree(folders[2])
    solver = clone(solver).fit(resume=True)
    np.testing.assert_array_equal(solver.predict([[1.0], [6.0], [11.0]]), expected)


def bent_by(x, u, k):
    return k * u.d(0, 0) + 1


def test_a_positive_constant_is_found_over_powers_of_ten():
    model = KANPDESolver(
        bent_by, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], n_boundary=2,
        pde_params={"k": Positive(1.0)}, **LEAST_SQUARES | {"lm_iter": 25},
    ).fit([[0.5]], [125.0])  # fmt: skip
    assert model.pde_params_["k"] == pytest.approx(1e-3, rel=1e-2)
    assert float(model._physics.pde_params["k"].detach()) == pytest.approx(np.log(1e-3), abs=0.02)
    assert pickle.loads(pickle.dumps(model)).pde_params_ == model.pde_params_


def drag(x, u, v, K):
    return 1e-3 * u.value / K - 2.5 * v * u.d(0, 0) - 1


def test_positive_constants_stay_while_they_hardly_matter():
    """With both at 0.1 a change of K moves nothing, until v is nearly right."""
    seen, rate = np.linspace(0.1, 0.9, 5)[:, None], 20.0
    model = KANPDESolver(
        drag, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], hard=True, basis="chebyshev",
        pde_params={"v": Positive(0.1), "K": Positive(0.1)}, n_boundary=2, sampling="sobol",
        **LEAST_SQUARES | {"lm_iter": 80, "n_interior": 120, "hidden_layer_sizes": (12,)},
    ).fit(seen, 1 - np.cosh(rate * (seen[:, 0] - 0.5)) / np.cosh(rate / 2))  # fmt: skip
    assert [*model.pde_params_.values()] == pytest.approx([1e-3, 1e-3], rel=0.05)


def test_a_constant_that_ran_off_is_told_of():
    model = KANPDESolver(
        bent_by, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], n_boundary=2,
        pde_params={"k": Positive(1.0)}, **LEAST_SQUARES,
    ).fit([[0.5]], [0.125])  # fmt: skip
    with torch.no_grad():
        model._physics.pde_params["k"] -= 20.0
    with pytest.warns(ConvergenceWarning, match=r"constant 'k' ran off to 2e-09 times its start"):
        model._judge({"interior": 20, "boundary": 2, "initial": 1}, 0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "1", True])
def test_a_positive_constant_starts_above_zero(value):
    with pytest.raises(ValueError, match="Positive must start at a number above 0"):
        Positive(value)


def bent(x, u):
    return u.d(0, 0) + 1


def by_itself(**settings):
    given = {"domain": Interval(0, 1), "conditions": [Dirichlet(0.0)], "n_boundary": 2}
    return KANPDESolver(bent, **given | QUICK | settings).fit()


def test_it_trains_by_itself_until_tol_is_reached():
    model = by_itself(tol=1e-3)
    assert model.predict([[0.5]])[0] == pytest.approx(0.125, abs=1e-3)
    assert model.module_(torch.zeros(1, 1, dtype=torch.float64)).dtype == torch.float64
    last = {name: values[-1] for name, values in model.loss_terms_.items() if name != "step"}
    assert all(loss <= 1e-6 * model._sizes.smooth[name] for name, loss in last.items())
    assert 1000 < model.n_iter_ < 1500


def test_time_is_kept():
    from time import perf_counter

    start = perf_counter()
    model = by_itself(time_limit=1.0)
    assert perf_counter() - start < 10 and model.n_iter_ < 3000
    assert np.isfinite(model.predict([[0.5]])).all()


def test_other_iterations_are_taken_as_they_are_asked_for():
    assert by_itself(max_iter=7, ssbfgs_iter=3, ssbroyden_iter=5, lm_iter=2).n_iter_ == 17
    assert by_itself(max_iter=30).module_(torch.zeros(1, 1)).dtype == torch.float32


@pytest.mark.parametrize("method", ["ssbfgs_iter", "ssbroyden_iter"])
def test_self_scaled_methods_go_further_than_lbfgs(method):
    settings = {"max_iter": 0, "resample_every": None, "n_interior": 80}
    ours = by_itself(**settings, **{method: 100})
    theirs = by_itself(**settings, lbfgs_iter=100)
    assert ours.loss_ < theirs.loss_ and ours.n_iter_ == 100
    assert ours.predict([[0.5]])[0] == pytest.approx(0.125, abs=1e-3)
    drawn = by_itself(**settings | {"resample_every": 1}, **{method: 210})
    assert drawn.predict([[0.5]])[0] == pytest.approx(0.125, abs=1e-3)
