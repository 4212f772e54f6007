"""torch.func goes through layers and networks, by every backend; equal to nested autograd."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from sklearn_metakan.basis import make_basis
from sklearn_metakan.nn import (
    KAN,
    DirectCoefficients,
    KANConv2d,
    KANLinear,
    MetaCoefficients,
    MetaLearner,
)

F64 = torch.float64
SOURCES = {  # prompt_dim, hidden_dim, activation, edge_scale
    "direct": None,
    "generated": (1, 4, "silu", False),
    "scaled": (2, 4, "sin", True),
    "linear": (2, 0, "relu", False),
}
each_source = pytest.mark.parametrize("source", SOURCES)
each_basis = pytest.mark.parametrize("basis", ["bspline", "rbf", "gram"])
each_backend = pytest.mark.parametrize("backend", ["reference", "kept", "blocked"])


def coefficients(source, n_in, n_out, functions):
    if SOURCES[source] is None:
        made = DirectCoefficients(n_in, n_out, functions, dtype=F64)
    else:
        p, hidden, activation, scale = SOURCES[source]
        learner = MetaLearner(p, hidden, functions, activation, dtype=F64)
        made = MetaCoefficients(n_in, n_out, learner, scale, dtype=F64)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return made


def make(source, basis, backend):
    functions = make_basis(basis, 3, grid_size=4, dtype=F64)
    weights = coefficients(source, 3, 2, functions.n_functions)
    return KANLinear(3, 2, functions, weights, init=None, backend=backend, working_memory=1e-5)


def draw(*shape):
    return 1.2 * torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(1))


def close(got, expected):
    scale = 1 + expected.abs().max().item()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10 * scale)


def nested_jacobian(function, x, create_graph=False):
    """By one autograd call an output."""
    y = function(x)
    rows = [
        torch.autograd.grad(one, x, create_graph=create_graph, retain_graph=True)[0]
        for one in y.flatten()
    ]
    return torch.stack(rows).view(*y.shape, *x.shape)


@each_source
@each_basis
@each_backend
def test_by_the_input(source, basis, backend):
    layer = make(source, basis, backend)
    x = draw(4, 3).requires_grad_()
    first = nested_jacobian(layer, x).detach()  # (n, out, n, in)
    total = nested_jacobian(lambda x: layer(x).sin().sum()[None], x, create_graph=True)[0]
    second = nested_jacobian(lambda _: total, x).detach()
    x, direction = x.detach(), draw(4, 3).flip(0)
    close(jvp(layer, (x,), (direction,))[1], torch.einsum("nomi,mi->no", first, direction))
    for jacobian in (jacrev, jacfwd):
        close(jacobian(layer)(x), first)
        one = vmap(jacobian(lambda t: layer(t[None])[0]))(x)
        close(one, first.diagonal(dim1=0, dim2=2).movedim(-1, 0))
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction))).tangent
    close(tangent, torch.einsum("nomi,mi->no", first, direction))
    close(grad(lambda x: layer(x).sin().sum())(x), total.detach())
    for twice in (hessian, lambda f: jacrev(jacrev(f)), lambda f: jacrev(jacfwd(f))):
        close(twice(lambda x: layer(x).sin().sum())(x), second)
    close(vmap(layer)(draw(5, 4, 3)), layer(draw(20, 3)).detach().unflatten(0, (5, 4)))


@each_source
@each_basis
@each_backend
def test_by_the_parameters(source, basis, backend):
    """The gradient of every sample, its derivative along a direction, and an ensemble."""
    layer = make(source, basis, backend)
    x = draw(4, 3)
    values = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(values, x):
        return functional_call(layer, values, (x,)).square().sum()

    by_sample = vmap(grad(loss), in_dims=(None, 0))(values, x[:, None])
    direction = {name: torch.cos(3 * v + 1) for name, v in values.items()}
    slope = jvp(lambda v: loss(v, x), (values,), (direction,))[1]
    along = jvp(grad(lambda v: loss(v, x)), (values,), (direction,))[1]
    gradients = torch.autograd.grad(
        layer(x).square().sum(), [*layer.parameters()], create_graph=True
    )
    pairs = dict(zip(values, gradients, strict=True))
    expected_slope = sum((g * direction[name]).sum() for name, g in pairs.items())
    products = torch.autograd.grad(expected_slope, [*layer.parameters()], allow_unused=True)
    close(slope, expected_slope.detach())
    for (name, gradient), product in zip(pairs.items(), products, strict=True):
        close(by_sample[name].sum(0), gradient.detach())
        close(along[name], torch.zeros_like(gradient) if product is None else product)
    several = {name: torch.stack([v, 0.5 * v]) for name, v in values.items()}
    both = vmap(lambda v: functional_call(layer, v, (x,)))(several)
    close(both[0], layer(x).detach())
    halves = {name: v[1] for name, v in several.items()}
    close(both[1], functional_call(layer, halves, (x,)).detach())


@each_source
@pytest.mark.parametrize("width", [3, 400])
def test_through_networks(source, width):
    """Of any size: "auto" computes small layers by the reference, large ones in blocks."""
    options = {} if SOURCES[source] is None else {"meta_learners": MetaLearner(2, 4, 9, dtype=F64)}
    network = KAN([2, width, 1], dtype=F64, **options)
    x = draw(3, 2).requires_grad_()
    (first,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    second = nested_jacobian(lambda _: first, x).detach()  # (n, in, n, in)
    x = x.detach()
    close(grad(lambda x: network(x).sum())(x), first.detach())
    curvature = vmap(hessian(lambda t: network(t[None])[0, 0]))(x)
    close(curvature, second.diagonal(dim1=0, dim2=2).movedim(-1, 0))


@each_source
@each_backend
def test_through_convolutions(source, backend):
    basis = make_basis("bspline", 2, grid_size=3, dtype=F64)
    weights = coefficients(source, (2, 2, 2), 2, basis.n_functions)
    layer = KANConv2d(2, 2, 2, basis=basis, source=weights, init=None, backend=backend)
    x = draw(2, 2, 3, 3).requires_grad_()
    first = nested_jacobian(layer, x).detach()
    close(jacrev(layer)(x.detach()), first)
    close(jacfwd(layer)(x.detach()), first)
    images = draw(3, 2, 2, 3, 3)
    expected = torch.stack([layer(rows).detach() for rows in images])
    close(vmap(layer)(images), expected)
