"""Derivatives pushed forward are those of nested autograd, and of closed forms."""

import pickle
import re

import pytest
import torch
from torch import nn

from sklearn_metakan.pde import Field, TrialFunction, check_degree, order_of

OPERATORS = {
    "value": lambda u: u.value,
    "grad": lambda u: u.grad(),
    "laplacian": lambda u: u.laplacian(),
    "divergence": lambda u: u[:3].divergence(),
    "normal": lambda u: u.normal_derivative(),
    "first": lambda u: u.d(1),
    "second": lambda u: u.d(0, 0),
    "mixed": lambda u: u.d(2, 0),
    "third": lambda u: u.d(1, 1, 1),
    "third_mixed": lambda u: u.d(0, 2, 0),
    "fourth": lambda u: u.d(2, 2, 2, 2),
    "fourth_mixed": lambda u: u.d(0, 1, 2, 1),
}


def close(found, expected):
    """To 1e-9 of the largest number."""
    assert found.shape == expected.shape
    bound = 1e-9 * max(expected.abs().max().item(), 1e-12)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=bound)


def gradients(trial, quantity):
    return torch.autograd.grad(
        quantity.square().sum(), [*trial.parameters()], allow_unused=True, materialize_grads=True
    )


def waves(x, net):
    return (1 - x.square().sum(1))[:, None] * net.sin() + x.prod(1, keepdim=True)


@pytest.mark.parametrize("degree", [3, 4, 5])
def test_operators_and_their_gradients_are_nested_autograds(twins, points, source, degree):
    scaling = {
        "input_shift": torch.tensor([0.1, 0.0, -0.2]),
        "input_scale": torch.tensor([1.0, 2.0, 0.5]),
        "output_scale": 3.0,
        "output_shift": 1.0,
    }
    trial, nested = twins([3, 4, 3], source, degree, **scaling)
    x, normal = points(6, 3), points(6, 3, seed=1)
    u, v = trial.field(x, normal), nested.field(x, normal)
    for operator in OPERATORS.values():
        close(operator(u), operator(v))
        for mine, theirs in zip(
            gradients(trial, operator(u)), gradients(nested, operator(v)), strict=True
        ):
            close(mine, theirs)
        u, v = trial.field(x, normal), nested.field(x, normal)


@pytest.mark.parametrize(
    ("operator", "outputs"),
    [
        pytest.param(operator, outputs, id=f"{name}-{outputs}")
        for name, operator in OPERATORS.items()
        for outputs in ([3] if name == "divergence" else [1, 3])
    ],
)
def test_ansatz_follows_by_the_chain_rule(twins, points, operator, outputs):
    def ansatz(x, net):
        return waves(x, net[:, None])[:, 0] if net.ndim == 1 else waves(x, net)

    source = {"n_meta_learners": "auto", "prompt_dim": 2, "meta_hidden_dim": 0}
    trial, nested = twins([3, 4, outputs], source, 5, ansatz=ansatz)
    x, normal = points(5, 3), points(5, 3, seed=1)
    found, expected = operator(trial.field(x, normal)), operator(nested.field(x, normal))
    close(found, expected)
    for mine, theirs in zip(gradients(trial, found), gradients(nested, expected), strict=True):
        close(mine, theirs)


def test_linear_layers_and_activations(points):
    torch.manual_seed(0)
    for activation in (nn.Tanh(), nn.SiLU(), nn.Sigmoid(), nn.GELU(), nn.Softplus()):
        network = nn.Sequential(nn.Linear(3, 8), activation, nn.Linear(8, 8), activation)
        network = network.append(nn.Linear(8, 3)).double()
        trial, nested = TrialFunction(network), TrialFunction(network, nested=True)
        x, normal = points(5, 3), points(5, 3, seed=1)
        for operator in OPERATORS.values():
            close(operator(trial.field(x, normal)), operator(nested.field(x, normal)))


class Monomials(nn.Module):
    """x^3 y t + t^2 and sin(x) e^y: a module that cannot be pushed through."""

    def forward(self, z):
        x, y, t = z.T
        return torch.stack([x**3 * y * t + t**2, x.sin() * y.exp()], 1)


def test_closed_forms(points):
    names = ("x", "y", "t")
    trial = TrialFunction(Monomials(), variables=names, time=True)
    z = points(7, 3)
    x, y, t = z.T
    u = trial.field(z)
    close(u.dt(), torch.stack([x**3 * y + 2 * t, 0 * x], 1))
    close(u[0].d("x", "x"), 6 * x * y * t)
    close(u[0].d("y", "x", "t", "x"), 6 * x)
    close(u[0].laplacian(), 6 * x * y * t)
    close(u[1].laplacian() + 1, torch.ones_like(x))
    close(u[1].grad(), torch.stack([x.cos() * y.exp(), x.sin() * y.exp()], 1))
    close(u.divergence(), 3 * x**2 * y * t + x.sin() * y.exp())
    first, second = u
    close(first.value, u.value[:, 0])
    close(second.value, u[-1].value)


def test_ansatz_alone_has_closed_forms(points):
    class Zero(nn.Module):
        def forward(self, x):
            return 0 * x[:, :1]

    trial = TrialFunction(Zero(), ansatz=lambda x, net: x[:, 0] ** 4 * x[:, 1] ** 2 + net)
    z = points(7, 2)
    x, y = z.T
    u = trial.field(z)
    close(u.laplacian(), 12 * x**2 * y**2 + 2 * x**4)
    close(u.d(0, 0, 1, 1), 24 * x**2)
    close(u.d(0, 0, 0, 0), 24 * y**2)


def residual(u, x):
    return u.dt() + u.value * u.grad().sum(1) - u.laplacian() + u.d(0, 1) - x[:, 0]


def test_one_pass_gives_what_many_give(twins, points, source):
    trial, _ = twins([3, 5, 1], source, time=True)
    x = points(9, 3)
    lazy = trial.field(x)
    expected = residual(lazy, x)
    few = trial.field(x[:2])
    residual(few, x[:2])
    assert few.request == {(), (0,), (1,), (2,), (0, 1), "laplacian"}
    assert order_of(few.request) == 2
    at_once = trial.field(x, request=few.request)
    close(residual(at_once, x), expected)
    assert len({id(tensor) for tensor, *_ in at_once._values.found.values()}) == 2
    for mine, theirs in zip(
        gradients(trial, residual(at_once, x)), gradients(trial, expected), strict=True
    ):
        close(mine, theirs)


def test_blocks_do_not_matter(twins, points, source, monkeypatch):
    trial, _ = twins([3, 6, 5, 1], source)
    x = points(11, 3)
    expected = trial.field(x).laplacian()
    expected_gradients = gradients(trial, expected)
    monkeypatch.setattr("sklearn_metakan.pde.derivatives.edge_jet.BLOCK_MEMORY", {"cpu": 0.001})
    found = trial.field(x).laplacian()
    close(found, expected)
    for mine, theirs in zip(gradients(trial, found), expected_gradients, strict=True):
        close(mine, theirs)


def test_gradients_of_gradients(twins, points, source):
    """The gradient of a residual can itself be differentiated, as L-BFGS variants may."""
    trial, nested = twins([2, 4, 1], source)
    x = points(4, 2)
    seconds = []
    for each in (trial, nested):
        parameters = [*each.parameters()]
        loss = each.field(x).laplacian().square().sum()
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        total = sum(g.square().sum() for g in first)
        seconds.append(torch.autograd.grad(total, parameters, allow_unused=True))
    for mine, theirs in zip(*seconds, strict=True):
        if theirs is None or mine is None:
            assert theirs is None or not theirs.any()
        else:
            close(mine, theirs)


@pytest.mark.parametrize("mode", ["sdgd", "hutchinson"])
def test_estimates_agree_in_expectation(twins, points, mode):
    options = {"derivatives": mode, "n_directions": 2, "ansatz": lambda x, net: x[:, 0] * net.exp()}
    trial, _ = twins([5, 4, 1], {}, **options)
    exact, _ = twins([5, 4, 1], {}, ansatz=options["ansatz"])
    x = points(3, 5).repeat(4000, 1)
    generator = torch.Generator().manual_seed(0)
    one, two = trial.fields(x, generator=generator)
    lap = exact.field(x).laplacian().unflatten(0, (4000, 3))
    found, other = (u.laplacian().detach().unflatten(0, (4000, 3)) for u in (one, two))
    spread = found.std(0) / 4000**0.5
    assert (spread > 0).all()
    assert ((found.mean(0) - lap[0]).abs() < 4 * spread).all()
    assert not torch.equal(found, other)
    products = (found - 1) * (other - 1)  # of residuals: the mean is the exact square
    spread = products.std(0) / 4000**0.5
    assert ((products.mean(0) - (lap[0] - 1) ** 2).abs() < 4 * spread).all()
    close(one.value, exact.field(x).value)
    close(one.grad(), exact.field(x).grad())
    assert torch.equal(one.value, two.value)


def test_estimates_with_all_dimensions_are_exact(twins, points):
    trial, nested = twins([3, 4, 1], {}, derivatives="sdgd", n_directions=3)
    x = points(4, 3)
    close(trial.field(x).laplacian(), nested.field(x).laplacian())


def test_estimates_stay_in_space(twins, points):
    for mode in ("sdgd", "hutchinson"):
        trial, _ = twins([2, 4, 1], {}, derivatives=mode, n_directions=1, time=True)
        x = points(4, 2)
        close(trial.field(x).laplacian(), trial.field(x).d(0, 0))


def test_estimates_follow_the_generator(twins, points):
    trial, _ = twins([6, 4, 1], {}, derivatives="sdgd", n_directions=2)
    x = points(4, 6)
    state = torch.get_rng_state()
    draws = [
        trial.field(x, generator=torch.Generator().manual_seed(seed)).laplacian()
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(state, torch.get_rng_state())


def test_field_is_callable_for_autograd(twins, points):
    trial, _ = twins([2, 4, 1], {}, ansatz=lambda x, net: x[:, 0] * net)
    x = points(5, 2).requires_grad_()
    u = trial.field(x)
    (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    close(slope, u.grad())
    assert u[0](x).shape == (5,)


def test_shapes(twins, points):
    x = points(6, 3)
    for outputs, shape in ((1, (6,)), (3, (6, 3))):
        u = twins([3, outputs], {})[0].field(x)
        assert isinstance(u, Field)
        assert u.value.shape == u.laplacian().shape == u.d(0, 1).shape == shape
        assert u.grad().shape == (*shape, 3)
        assert u[0].value.shape == u[-1].laplacian().shape == (6,)


def test_pickle(twins, points):
    trial, _ = twins([2, 3, 1], {})
    x = points(3, 2)
    again = pickle.loads(pickle.dumps(trial))
    close(again.field(x).laplacian(), trial.field(x).laplacian())


def fails(message, call, error=ValueError):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_bad_questions(twins, points):
    trial, _ = twins([2, 3, 2], {}, variables=("x", "y"))
    u = trial.field(points(3, 2))
    fails("('x', 'y'), or numbers of columns from 0 to 1, got 'z'", lambda: u.d("z"))
    fails("got 2", lambda: u.d(2))
    fails("one to 4 coordinates, got 5", lambda: u.d(0, 0, 0, 0, 0))
    fails("one to 4 coordinates, got 0", lambda: u.d())
    fails("needs a time", u.dt)
    fails("needs normals", u.normal_derivative)
    fails("got 1; choose them with u[:2]", u[0].divergence)
    fails("2 outputs", lambda: u[2], IndexError)


def test_bad_settings(twins, points):
    network = twins([2, 3, 1], {})[0].network
    fails("got 'stde'", lambda: TrialFunction(network, derivatives="stde"))
    fails("n_directions must be at least 1", lambda: TrialFunction(network, n_directions=0))
    fails("input_scale must be finite", lambda: TrialFunction(network, input_scale=0.0))
    trial = TrialFunction(network, variables=("x",))
    fails("name each of the 2 columns of x", lambda: trial.field(points(3, 2)))
    trial = TrialFunction(network, ansatz=lambda x, net: x.sum())
    fails("ansatz(x, net) must return", lambda: trial.field(points(3, 2)).value)
    fails("shape (n, d), got (3,)", lambda: trial.field(torch.zeros(3)))
    fails("degree must be at least 5", lambda: check_degree(network, 4))
    check_degree(network, 2)
