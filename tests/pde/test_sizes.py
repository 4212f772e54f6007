"""Units, smooth starts, weights of losses, and fits that say that they failed."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_metakan.nn import KAN
from sklearn_metakan.pde import (
    Condition,
    Dirichlet,
    Interval,
    KANPDESolver,
    Neumann,
    TrialFunction,
    problems,
)
from sklearn_metakan.pde.physics.physics import EQUATION
from sklearn_metakan.pde.solve.sizes import unsolved

SMALL = {"hidden_layer_sizes": (6,), "n_interior": 100, "n_boundary": 4, "random_state": 0}
SMALL |= {"device": "cpu", "max_iter": 0, "lm_iter": 15}


def bent(x, u):
    return u.d(0, 0) + 1


def at(end, order):
    return Condition(
        lambda x, u, normal: u.d(*[0] * order) if order else u.value,
        where=lambda x: x[:, 0] == end,
        name=f"{end}_{order}",
    )


BEAM = {
    "residual": lambda x, u: u.d(0, 0, 0, 0) + 1,
    "domain": Interval(0, 1),
    "conditions": [at(0, 0), at(0, 1), at(1, 2), at(1, 3)],
}


def solved(residual=bent, domain=None, conditions=None, kind=KANPDESolver, **settings):
    domain = Interval(0, 1) if domain is None else domain
    conditions = [Dirichlet(0.0)] if conditions is None else conditions
    return kind(residual, domain=domain, conditions=conditions, **SMALL | settings).fit()


@pytest.mark.parametrize("grid_size", [5, 20])
def test_high_derivatives_start_as_large_as_the_function(grid_size):
    x = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]

    def bends(**start):
        found = []
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            network = KAN(
                [1, 16, 1], degree=6, grid_size=grid_size, extrapolation="base",
                generator=generator, dtype=torch.float64, **start,
            )  # fmt: skip
            u = TrialFunction(network).field(x)
            found.append(float(u.d(0, 0, 0).square().mean().sqrt().detach()))
        return np.median(found)

    assert bends(init_order=4) < 0.2 * bends() and bends(init_order=4) < 50


def test_a_beam_bends_as_it_should():
    beam = KANPDESolver(**BEAM, **SMALL | {"lm_iter": 25}).fit()
    assert [layer.basis.degree for layer in beam.module_.network.layers] == [6, 6]
    x = np.linspace(0, 1, 51)
    exact = -(x**4) / 24 + x**3 / 6 - x**2 / 4
    assert np.abs(beam.predict(x[:, None]) - exact).max() < 2e-3
    beam.set_params(warm_start=True, lm_iter=1).fit()  # with the degree that it has
    assert np.abs(beam.predict(x[:, None]) - exact).max() < 2e-3


def test_a_degree_of_ones_own_stays():
    with pytest.raises(ValueError, match="degree must be at least 5 for derivatives of order 4"):
        KANPDESolver(**BEAM, **SMALL, degree=4).fit()
    beam = KANPDESolver(**BEAM, **SMALL | {"max_iter": 1, "lm_iter": 0}, degree=5).fit()
    assert beam.module_.network.layers[0].basis.degree == 5


@pytest.mark.parametrize("length", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("load", [1e-4, 1.0, 1e4])
def test_units_do_not_matter(length, load):
    """u'' = -load, u = 0 at both ends: load length^2 / 8 in the middle."""
    model = solved(lambda x, u: u.d(0, 0) + load, Interval(0, length))
    middle = model.predict([[length / 2]])[0]
    assert middle == pytest.approx(load * length**2 / 8, rel=1e-2)


def test_coordinates_far_from_zero_keep_their_digits():
    for precision in ("auto", "float32"):
        far = solved(domain=Interval(1.7e9, 1.7e9 + 1), precision=precision, lm_iter=30)
        assert far.predict([[1.7e9 + 0.5]])[0] == pytest.approx(0.125, rel=1e-3)


def test_each_output_has_its_own_size():
    def coupled(x, u):  # u' = v / 1000, v' = -1000 u from (1, 0) times 1e-3 and 1
        return u[0].d(0) - u[1].value / 1e3, u[1].d(0) + 1e3 * u[0].value

    start = [
        Dirichlet(value, where=lambda x: x[:, 0] == 0, output=j, name=name)
        for j, (value, name) in enumerate([(0.0, "small"), (50.0, "large")])
    ]
    model = solved(coupled, Interval(0, 1), start, n_outputs=2)
    small, large = model.module_.output_scale.tolist()
    assert 10 < large < 200 and large / 3e3 < small < large / 300
    x = np.linspace(0, 1, 11)
    found = model.predict(x[:, None]) / [0.05, 50]
    np.testing.assert_allclose(found, np.stack([np.sin(x), np.cos(x)], 1), atol=1e-3)


def test_losses_start_as_large_as_that_of_the_equation():
    wave = problems.Wave()
    model = KANPDESolver(**wave.settings, **SMALL | {"lm_iter": 1}, n_initial=20).fit()
    sizes = model._sizes
    weighted = {name: sizes.smooth[name] * w for name, w in sizes.weights().items()}
    assert weighted == pytest.approx(dict.fromkeys(weighted, sizes.smooth["residual"]))
    raw = {name: values[0] for name, values in model.loss_terms_.items() if name in weighted}
    total = sum(sizes.weights()[name] * loss for name, loss in raw.items())
    assert model.loss_curve_[0] == pytest.approx(total, rel=1e-6)
    plain = model.set_params(loss_weights=None).fit()
    raw = {name: values[0] for name, values in plain.loss_terms_.items() if name in weighted}
    assert plain.loss_curve_[0] == pytest.approx(sum(raw.values()), rel=1e-6)


UNSOLVED = {
    "nothing happens": ({"learning_rate": 1e-12}, "'residual' is"),
    "the conditions are ignored": (
        {"conditions": [Neumann(0.0)], "loss_weights": {"neumann": 0.0}, "max_iter": 200},
        "'neumann' is",
    ),
}


@pytest.mark.parametrize("case", UNSOLVED)
def test_a_fit_that_solved_nothing_says_so(case):
    settings, name = UNSOLVED[case]
    with pytest.warns(ConvergenceWarning, match=f"Not solved: .*{name}.*lm_iter"):
        solved(**{"lm_iter": 0, "max_iter": 3} | settings)


@pytest.mark.parametrize("unit", [1.0, 1e-7])
def test_a_fit_that_solved_is_silent(unit):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solved(lambda x, u: u.d(0, 0) + unit)
        solved(lambda x, u: u.d(0, 0), conditions=[Dirichlet(3.0)])  # the solution is a constant


def test_what_an_ansatz_solves_alone_makes_no_failure_of_what_is_as_good():
    """A network at zero left next to nothing; what is left now is more, and next to nothing too."""
    solver = solved()
    batch, u = solver._collocation({"interior": 50, "boundary": 2}, 1).draw(), torch.rand(50, 1)
    left = float(solver._physics.residuals(batch[EQUATION][0][0])[EQUATION].square().mean())
    assert 0 < left < 1e-6 * solver._sizes.smooth[EQUATION]
    sizes = replace(solver._sizes, nothing={**solver._sizes.nothing, EQUATION: 0.1 * left})
    assert not unsolved(solver._physics, batch, sizes, u.double())


def test_values_about_a_large_constant():
    """u'' = -8 from 300 to 301, as temperatures are: what varies is one, not 300."""
    model = solved(
        lambda x, u: u.d(0, 0) + 8, conditions=[Dirichlet(lambda x: 300 + x[:, 0])], lm_iter=20
    )
    assert model.module_.output_shift.item() == pytest.approx(300.5, abs=0.1)
    assert model.module_.output_scale.item() < 2
    assert model.predict([[0.5]])[0] == pytest.approx(301.5, abs=1e-3)


def test_many_coordinates_add_up_to_a_large_constant():
    cube = problems.PoissonCube(40)
    settings = SMALL | {"n_boundary": 80, "max_iter": 1, "lm_iter": 0}
    trial = KANPDESolver(**cube.settings, **settings).fit().module_
    assert trial.output_shift.item() == pytest.approx(40 * 2 / np.pi, rel=0.05)
    assert trial.output_scale.item() == 1.0
