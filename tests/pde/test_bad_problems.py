"""Each wrong problem is a clear error before training starts."""

import re

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import (
    Ball,
    Condition,
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Neumann,
    SpaceTime,
)

LINE, DISC = Interval(0, 1), Ball([0.0, 0.0])


def fine(x, u):
    return u.laplacian() + 1


def slope_by_autograd(x, u):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(u(x).sum(), x, create_graph=True)[0][:, 0]


def numpy_source(x, u):
    return u.laplacian() - torch.as_tensor(np.sin(np.asarray(u.value)))


def outside(n, generator):
    return 2 + torch.rand(n, 2, generator=generator)


def doubled(x, u):
    x *= 2
    return u.laplacian()


def tripled(x, u):
    value = u.value
    value *= 3
    return u.laplacian() + value


def long_normals(n, generator):
    x, normals = DISC.sample_boundary(n, generator)
    return x, 2 * normals


class _Named:
    """A sampler that knows what is inside, and draws elsewhere."""

    bounds = ((0.0, 1.0), (0.0, 1.0))

    def sample(self, n, generator):
        return outside(n, generator)

    def sample_boundary(self, n, generator):
        return torch.zeros(n, 2)

    def contains(self, x):
        return (x <= 1).all(1)


RESIDUALS = {
    "(n, 1)": (lambda x, u: u.value[:, None], "got (30, 1). Field quantities are (n,)"),
    "(n, n)": (lambda x, u: u.value[:, None] - u.value, "A term of shape (n, 1) met one of"),
    "(n, 2)": (lambda x, u: u.grad(), "tuple of residuals"),
    "scalar": (lambda x, u: u.value.mean(), "must return the shape (n,), here (30,), got ()"),
    "number": (lambda x, u: 0.0, "must return a tensor"),
    "nothing": (lambda x, u: (), "at least one residual"),
    "numpy": (numpy_source, "must use torch, not numpy"),
    "not finite": (lambda x, u: u.value + x[:, 0].sqrt(), "must be finite, got nan at point"),
    "complex": (lambda x, u: u.value * 1j, "residual(x, u) must be real, got torch.complex"),
    "changes x": (doubled, "residual(x, u) must not change x or u in place"),
    "changes u": (tripled, "residual(x, u) must not change x or u in place"),
    "another constant": (lambda x, u, nu: u.value, "residual must be a function of (x, u), x, u"),
    "no u": (lambda x, u: x[:, 0], "does not depend on u"),
    "variable": (lambda x, u: u.d("z"), "u.d takes names of variables, ('x0', 'x1')"),
    "time": (lambda x, u: u.dt(), "u.dt() needs a time"),
    "high order": (lambda x, u: u.d(0, 0, 0), "degree must be at least 4 for derivatives of order"),
    "name taken": (lambda x, u: {"dirichlet": u.value}, "names a residual 'dirichlet'"),
    "name of data": (lambda x, u: {"data": u.value}, "must not name a residual 'data'"),
    "slope inside": (lambda x, u: u.normal_derivative(), "needs normals"),
}


@pytest.mark.parametrize(("residual", "message"), RESIDUALS.values(), ids=RESIDUALS)
def test_residuals(residual, message):
    settings = {"conditions": [Dirichlet()], "n_interior": 30, "degree": 3}
    solver = KANPDESolver(residual, domain=DISC, **settings)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        solver.fit()
    assert not hasattr(solver, "net_")


SETTINGS = {
    "where": ({"conditions": [Dirichlet(where=lambda x: x[:, 0] > 3)]}, "where holds at none"),
    "no condition object": ({"conditions": [0.0]}, "conditions must hold Dirichlet"),
    "name taken": ({"conditions": [Dirichlet(name="step")]}, "must not have the name 'step'"),
    "solution": ({"solution": lambda x: x[:, :1]}, "solution must return the shape (2000,)"),
    "names twice": ({"conditions": [Dirichlet(name="a"), Neumann(name="a")]}, "'a' twice"),
    "data not finite": ({"conditions": [Dirichlet(lambda x: x[:, 0] / 0)]}, "must be finite"),
    "data of a wrong shape": ({"conditions": [Dirichlet(lambda x: x)]}, "must return the shape"),
    "initial": ({"conditions": [Initial()]}, "needs a SpaceTime domain"),
    "no domain": ({"domain": None}, "domain is missing"),
    "causal": ({"causal": 1.0}, "causal=1.0 needs a time"),
    "causal sdgd": ({"causal": 1.0, "derivatives": "sdgd"}, "contradicts derivatives='sdgd'"),
    **{
        f"{name} sdgd": (
            {name: 5, "derivatives": "sdgd"},
            f"{name}=5 contradicts derivatives='sdgd': it compares exact losses. Set {name}=0",
        )
        for name in ("lbfgs_iter", "lm_iter")
    },
    "autograd lm": (
        {"residual": slope_by_autograd, "conditions": [Dirichlet()], "lm_iter": 5},
        "derivatives must be u.d(...)",
    ),
    "many unknowns": (
        {"hidden_layer_sizes": (80, 80), "lm_iter": 5},
        "at most 20,000; the network has",
    ),
    "nothing to do": ({"max_iter": 0}, "leave nothing to train"),
    "weights": ({"loss_weights": {"edge": 2.0}}, "loss_weights must name losses"),
    "negative weight": ({"loss_weights": {"dirichlet": -1}}, "must be numbers of at least 0"),
    "variables": ({"variables": ("x",)}, "variables must be 2 different names"),
    "value": ({"conditions": [Dirichlet(None)]}, "a number or a function of x, got None"),
    "values": (
        {"conditions": [Dirichlet([1, 2, 3])]},
        "a number or a function of x, got [1, 2, 3]",
    ),
    "weight": ({"loss_weights": {"dirichlet": "a"}}, "must be numbers of at least 0"),
    "name of torch": ({"pde_params": {"keys": 1.0}}, "cannot have a constant called 'keys'"),
    "name of x": ({"pde_params": {"x": 1.0}}, "residual must be a function of (x, u, x)"),
    "unknown constant": ({"pde_params": {"nu": 1.0}}, "a function of (x, u, nu), x, u and"),
    "long normals": ({"boundary": long_normals}, "must be unit vectors, one for each of the 200"),
    "complex points": ({"domain": lambda n, g: torch.ones(n, 2) * 1j}, "they are complex"),
    **{
        f"square of {mode}": (
            {
                "residual": lambda x, u: u.laplacian() ** 2 - 1,
                "derivatives": mode,
                "n_directions": 1,
            },
            f"must be linear in u.laplacian() with derivatives='{mode}'",
        )
        for mode in ("sdgd", "hutchinson")
    },
    "mean lm": (
        {"residual": lambda x, u: u.laplacian() + u.value.mean(), "lm_iter": 5},
        "those of residual(x, u) change with the other points",
    ),
    "mean on the edge lm": (
        {
            "conditions": [Condition(lambda x, u, n: u.value - u.value.mean())],
            "lm_iter": 5,
        },
        "change with the other points",
    ),
    "field plus": (
        {"residual": lambda x, u: u.laplacian() + u**2},
        "for numbers: they are u.value",
    ),
    "field in sine": ({"residual": lambda x, u: torch.sin(u)}, "for numbers: they are u.value"),
    "field in a condition": (
        {"conditions": [Condition(lambda x, u, n: x[:, 0] * u)]},
        "for numbers: they are u.value",
    ),
    "text as domain": ({"domain": "disc"}, "Or give a domain, such as Interval(0, 1)"),
    "ends as domain": ({"domain": (0, 1)}, "Or give a domain, such as Interval(0, 1)"),
    "constants": ({"pde_params": {"nu": "a"}}, "pde_params must map names to numbers"),
    "sampling": ({"sampling": "random"}, "The 'sampling' parameter"),
    "radius": ({"domain": SpaceTime(LINE), "sampling": "radius"}, "SpaceTime knows"),
    "width": ({"domain": LINE, "boundary": [[0.0, 1.0]]}, "must have 1 dimensions, got 2"),
    "widths": ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must hold whole numbers"),
    "rate": ({"learning_rate": "cosine"}, "learning_rate_schedule"),
    "ansatz of few": (
        {"ansatz": lambda x, net: net[:, 0], "n_outputs": 2, "residual": lambda x, u: u[0].d(0)},
        "must return the shape (n, 2) for n_outputs=2",
    ),
    "ansatz of many": (
        {"ansatz": lambda x, net: torch.stack([net] * 3, 1)},
        "must return the shape (n,) for n_outputs=1",
    ),
    "ansatz of pairs": (
        {"ansatz": lambda x, net: x[:, :1] * net},
        "A term of shape (n, 1) met one of shape (n,)",
    ),
    "ansatz": ({"ansatz": lambda x, net: net[:5]}, "ansatz(x, net) must return"),
    "device": ({"device": "cuda:99"}, "is not available here"),
    "net_params": ({"net_params": {"lr": 1.0}}, "the parameter 'learning_rate' sets it"),
    "graph": ({"net_params": {"cuda_graph": True}}, "cuda_graph=True"),
    "degree": ({"degree": 2}, "degree must be at least 3 for derivatives of order 2, got 2"),
    "boundary outside": ({"boundary": [[5.0, 5.0], [6.0, 6.0]]}, "points of 'dirichlet' must lie"),
    "boundary sampler outside": ({"boundary": outside}, "points of 'dirichlet' must lie in the"),
    "points without boundary": ({"domain": lambda n, g: DISC.sample(n, g)}, "have no boundary"),
    "condition of pairs": (
        {"conditions": [Condition(lambda x, u, n: u.value - x[:, :1])]},
        "A term of shape (n, 1) met one of shape (n,)",
    ),
    "condition of means": (
        {"conditions": [Condition(lambda x, u, n: u.value.mean())]},
        "must give the shape (n,) or (n, m), here n = 200, got ()",
    ),
    "class": ({"conditions": Dirichlet}, "conditions must hold Dirichlet"),
    "classes": ({"conditions": [Dirichlet]}, "got the class: write Dirichlet(...)"),
    "class of windows": (
        {"conditions": [Initial], "domain": SpaceTime(DISC), "windows": 2},
        "got the class: write Initial(...)",
    ),
    "class of an eigenvalue": (
        {"conditions": Dirichlet, "eigenvalue": "k", "residual": lambda x, u, k: u.laplacian()},
        "got the class: write Dirichlet(...)",
    ),
    "class of domains": ({"domain": Ball}, "must be an object, got the class: write Ball(...)"),
    "class of boundaries": ({"boundary": Ball}, "got the class: write Ball(...)"),
    "time first": (
        {"domain": SpaceTime(LINE), "variables": ("t", "x")},
        "variables must have 't', the time, last",
    ),
    "system not finite": (
        {"residual": lambda x, u: (u.value, x[:, 0].sqrt() * u.value)},
        "must be finite, got nan at point",
    ),
    "sampler outside": ({"domain": _Named()}, "must lie in its domain"),
}


@pytest.mark.parametrize("solver", [KANPDESolver, MetaKANPDESolver])
@pytest.mark.parametrize(("settings", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings(solver, settings, message):
    settings = {"domain": DISC, "conditions": [Dirichlet()], "n_interior": 30} | settings
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        solver(**{"residual": fine} | settings).fit()


FITS = {
    "domain outside": ((Ball([9.0, 9.0]),), "points of the equation must lie in the domain"),
    "sampler outside": ((outside,), "points of the equation must lie in the domain"),
    "outside": (([[3.0, 0.0]],), "X must lie in the domain"),
    "width": (([[0.5]],), "must have 2 dimensions, got 1"),
    "y alone": ((None, [1.0]), "y needs X"),
    "y of another length": (([[0.5, 0.0]], [1.0, 2.0]), "y must have the shape (1, 1) or (1,)"),
    "y of one output": (([[0.5, 0.0]], [[1.0, 2.0]]), "y must have the shape (1, 1) or (1,), got"),
    "y not finite": (([[0.5, 0.0]], [np.nan]), "y must be finite"),
    "X not finite": (([[np.nan, 0.0]],), "must be finite"),
}


@pytest.mark.parametrize(("arguments", "message"), FITS.values(), ids=FITS)
def test_what_fit_is_given(arguments, message):
    solver = KANPDESolver(fine, domain=DISC, conditions=[Dirichlet()])
    with pytest.raises(ValueError, match=re.escape(message)):
        solver.fit(*arguments)


def test_an_equation_alone_is_warned_of():
    solver = KANPDESolver(fine, domain=DISC, n_interior=10, max_iter=1, hidden_layer_sizes=(2,))
    with pytest.warns(UserWarning, match="no conditions and no ansatz"):
        solver.fit()


def test_what_predict_is_given():
    solver = KANPDESolver(
        fine, domain=DISC, conditions=[Dirichlet()], n_interior=10, max_iter=1,
        hidden_layer_sizes=(2,),
    ).fit()  # fmt: skip
    for X, message in (
        ([[0.5]], "expecting 2 features"),
        ([[np.nan, 0.0]], "NaN"),
        ([0.5, 0.0], "Expected 2D array"),
    ):
        with pytest.raises(ValueError, match=message):
            solver.predict(X)
    with pytest.raises(ValueError, match="takes names of variables"):
        solver.predict_derivative([[0.5, 0.0]], ("y",))
    with pytest.raises(ValueError, match=r"takes names of variables, .*, got 0\.5"):
        solver.predict_derivative([[0.5, 0.0]], 0.5)
    with pytest.raises(ValueError, match="'working_memory' parameter"):
        solver.set_params(working_memory=-1).predict([[0.5, 0.0]])
    with pytest.raises(ValueError, match="score with y needs X"):
        solver.score(None, [1.0])
