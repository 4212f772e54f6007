"""Every basis: derivatives by autograd and by torch.func, autocast, far inputs; and silu."""

from functools import partial
from typing import get_args

import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from sklearn_metakan.basis import BasisName, make_basis, quantile_knots
from sklearn_metakan.basis.base import silu

NAMES = get_args(BasisName)
EXTRAPOLATIONS = ["linear", "base", "constant"]
each_name = pytest.mark.parametrize("name", NAMES)
each_pair = pytest.mark.parametrize(
    ("name", "extrapolation"),
    [(n, e) for n in NAMES for e in EXTRAPOLATIONS if (n, e) != ("legendre", "base")],
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_equals_nested_autograd(dtype, order):
    t = torch.linspace(-12, 12, 101, dtype=torch.float64, requires_grad=True)
    expected = t * torch.sigmoid(t)
    for _ in range(order):
        (expected,) = torch.autograd.grad(expected.sum(), t, create_graph=True)
    got = silu(t.detach().to(dtype), order).double()
    # t, up to 12, times a polynomial of sigmoid with coefficients of up to 150 in sum
    tolerance = 12 * 150 * torch.finfo(dtype).eps
    torch.testing.assert_close(got, expected.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_far_away_it_is_zero_or_the_identity(order):
    t = torch.tensor([-1e6, 1e6])
    assert silu(t, 0).tolist() == [0.0, t[1].item()]
    assert silu(t, order).tolist() == [0.0, 1.0 if order == 1 else 0.0]


KNOTS = {"shared": (-1.0, 1.0), "ends": [[-1.0, 1.0], [0.0, 3.0], [-2.0, 0.5]]}


@each_name
@pytest.mark.parametrize("knots", KNOTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("derivative", [0, 1, 2])
def test_autocast_rounds_nothing(name, knots, dtype, derivative):
    basis = make_basis(name, 3, knots=KNOTS[knots], dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=generator, dtype=dtype)
    grad = torch.randn(20, 3, basis.n_functions, generator=generator, dtype=dtype)

    def compute():
        both = basis.values_and_contract(grad, x, 0, derivative)
        contracted = basis.contract(grad, x, 0, derivative)
        evaluated = basis.evaluate(x, derivative=derivative)
        return [basis.values(x, 0, derivative), contracted, evaluated, *both]

    expected = compute()
    with torch.autocast("cpu", torch.bfloat16):
        got = compute()
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def draw(*shape, dtype=torch.float64):
    return 1.5 * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def nested(basis, x, orders):
    """Derivatives of the sum of all functions of an input, one order after the other."""
    found = [basis.evaluate(x).sum(-1)]
    for _ in range(orders):
        (slope,) = torch.autograd.grad(found[-1].sum(), x, create_graph=True)
        found.append(slope)
    return [f.detach() for f in found]


@each_pair
def test_transforms_equal_nested_autograd(name, extrapolation):
    """In every nesting of forward and reverse; of one input, with its own grid."""
    basis = make_basis(name, 3, knots=KNOTS["ends"], extrapolation=extrapolation).double()
    x = draw(6, 3).requires_grad_()
    _, first, second, third = nested(basis, x, 3)
    x = x.detach()

    def total(x):
        return basis.evaluate(x).sum(-1)

    def one(t):
        return total(t[None])[0]  # (in,) -> (in,)

    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9 * (1 + third.abs().max()))
    ones = torch.ones_like(x)
    close(jvp(total, (x,), (ones,))[1], first)
    close(vjp(total, x)[1](ones)[0], first)
    close(grad(lambda x: total(x).sum())(x), first)
    for jacobian in (jacrev, jacfwd):
        close(vmap(jacobian(one))(x), torch.diag_embed(first))
        close(jacobian(total)(x).diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1), first)
    cube = torch.zeros(6, 3, 3, 3).double()
    cube[:, range(3), range(3), range(3)] = second
    for again in (hessian, lambda f: jacrev(jacfwd(f)), lambda f: jacrev(jacrev(f))):
        close(vmap(again(one))(x), cube)
    slope = grad(grad(lambda t: total(t[None, None].expand(1, 3))[0, 1]))
    close(vmap(grad(slope))(x[:, 1]), third[:, 1])


@each_name
def test_vmap_over_any_axis_and_through_blocks(name):
    basis = make_basis(name, 3, knots=KNOTS["ends"]).double()
    x = draw(4, 5, 3)
    expected = torch.stack([basis.evaluate(rows, 1, 3, derivative=1) for rows in x])
    part = partial(basis.evaluate, start=1, stop=3, derivative=1)
    torch.testing.assert_close(vmap(part)(x), expected)
    moved = vmap(part, in_dims=2, out_dims=1)(x.movedim(0, 2))
    torch.testing.assert_close(moved, expected.movedim(0, 1))
    assert vmap(part)(x[:0]).shape == expected[:0].shape


FAR = {torch.float32: 3e38, torch.float64: 1e300}


@pytest.mark.parametrize("dtype", FAR)
@pytest.mark.parametrize("own", [False, True])
@each_pair
def test_far_away_answers_are_finite_or_too_large_and_never_nan(name, extrapolation, own, dtype):
    knots = quantile_knots(draw(90, 2).numpy(), 5) if own and name == "bspline" else (-1, 0.5)
    basis = make_basis(name, 2, knots=knots, extrapolation=extrapolation, dtype=dtype)
    far, largest = FAR[dtype], torch.finfo(dtype).max
    x = torch.tensor(
        [[-far, far], [far, -far], [-far / 1e8, 1e9], [largest, -largest]], dtype=dtype
    )
    for m in range(4):
        features = basis.evaluate(x.requires_grad_(), derivative=m)
        (slope,) = torch.autograd.grad(features.clamp(-far, far).sum(), x)
        assert not features.isnan().any() and slope.isfinite().all()
        if m or extrapolation != "linear":
            assert features.isfinite().all()
    if extrapolation != "linear":
        return
    end = x.detach().clamp(*basis.domain.T)
    value, slope = basis.evaluate(end), basis.evaluate(end, derivative=1)
    expected = value + slope * (x.detach() - end)[..., None]
    expected = expected[:3].clamp(-largest, largest)
    fits = expected.abs() < 0.3 * largest
    scale = slope.abs().amax(-1, keepdim=True)[:3] * x[:3, :, None].abs()
    difference = (basis.evaluate(x)[:3] / 4 - expected / 4).abs()[fits]
    assert (difference <= 1e3 * torch.finfo(dtype).eps * scale.expand_as(fits)[fits]).all()


@each_name
def test_knots_whose_range_overflows_are_refused(name):
    with pytest.raises(ValueError, match="finite and strictly increasing"):
        make_basis(name, 2, knots=(-1.5e308, 1.5e308), dtype=torch.float64)
    with pytest.raises(ValueError, match="finite and strictly increasing"):
        make_basis(name, 2, knots=[[0.0, 1.0], [-3e38, 3e38]], dtype=torch.float32)


@each_name
def test_copies_on_other_grids_are_of_the_same_class(name):
    class Own(type(make_basis(name, 1))):
        pass

    basis = make_basis(name, 2, extrapolation="constant")
    basis.__class__ = Own
    copy = basis.with_grid(knots=torch.tensor([0.0, 2.0]), dtype=torch.float64)
    assert type(copy) is Own and repr(copy) == repr(basis)
    assert copy.domain.tolist() == [[0.0, 2.0]] * 2 and copy.domain.dtype == torch.float64


def laid_out(features, functions_first):
    return features.permute((2, 1, 0) if functions_first else (1, 2, 0))


def combined(matrix, features, functions_first):
    """Functions from what ``linearize`` gives; without a matrix, these."""
    if matrix is None:
        return features
    return torch.einsum("cr,rin->cin" if functions_first else "cr,irn->icn", matrix, features)


@pytest.mark.parametrize("functions_first", [True, False])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inside", [False, True])
@each_pair
def test_linearize_and_pull_equal_evaluate_and_its_gradient(
    name, extrapolation, inside, dtype, own, functions_first
):
    """However x lies in memory; as often as asked."""
    grids = [KNOTS["ends"], quantile_knots(draw(90, 3).numpy(), 5)]
    knots = grids[name == "bspline"] if own else KNOTS["shared"]
    basis = make_basis(name, 3, knots=knots, extrapolation=extrapolation, dtype=dtype)
    for x in (draw(20, 3, dtype=dtype), draw(3, 40, dtype=dtype).T[::2], draw(0, 3, dtype=dtype)):
        if inside:
            x = x.maximum(basis.domain[:, 0]).minimum(basis.domain[:, 1])
        given, x = x, x.clone().requires_grad_()
        expected = laid_out(basis.evaluate(x), functions_first)
        grad = torch.randn(expected.shape, dtype=dtype)
        (slope,) = torch.autograd.grad(expected, x, grad)
        features, matrix, kept = basis.linearize(given, functions_first, wants_pull=True)
        alone, *_ = basis.linearize(given, functions_first, wants_pull=False)
        assert features.is_contiguous() and alone.is_contiguous()
        if matrix is not None:
            grad = combined(matrix.T, grad, functions_first)
        torch.testing.assert_close(combined(matrix, features, functions_first), expected)
        torch.testing.assert_close(alone, features)
        before, pulled = grad.clone(), basis.pull(grad, kept)
        assert pulled.T.is_contiguous()
        torch.testing.assert_close(pulled, slope)
        other_strides = grad.transpose(0, 2).contiguous().transpose(0, 2)
        torch.testing.assert_close(basis.pull(other_strides, kept), pulled)
        assert torch.equal(basis.pull(grad, kept), pulled) and torch.equal(grad, before)


@each_name
def test_linearize_refuses_what_evaluate_refuses(name):
    basis = make_basis(name, 3, extrapolation="error")
    x = basis.domain.T.contiguous()
    features, matrix, _ = basis.linearize(x, True, True)
    torch.testing.assert_close(combined(matrix, features, True).permute(2, 1, 0), basis.evaluate(x))
    with pytest.raises(ValueError, match="outside the grid"):
        basis.linearize(x + 0.1, True, True)
