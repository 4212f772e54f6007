"""What all smooth families promise: derivatives of any order, gradients, extrapolation."""

from math import pi, sqrt
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch.autograd import gradcheck, gradgradcheck

from sklearn_metakan.basis import Basis, BasisName, make_basis
from sklearn_metakan.basis.base import silu

IN, CELLS, DEGREE = 3, 3, 4
NAMES = [name for name in get_args(BasisName) if name != "bspline"]
KNOTS = {"shared": (-1.0, 1.0), "ends": [[-1.0, 1.0], [0.0, 3.0], [-2.0, 0.5]]}
EXTRAPOLATIONS = ["linear", "base", "constant", "error"]
each_name = pytest.mark.parametrize("name", NAMES)
each_pair = pytest.mark.parametrize(
    ("name", "extrapolation"),
    [(n, e) for n in NAMES for e in EXTRAPOLATIONS if (n, e) != ("legendre", "base")],
)


def make(name, extrapolation="linear", knots="ends", dtype=torch.float64):
    return make_basis(
        name,
        IN,
        grid_size=CELLS,
        degree=DEGREE,
        knots=KNOTS[knots],
        extrapolation=extrapolation,
        dtype=dtype,
    )


def draw(basis, n=20, beyond=0.0, seed=0):
    """Random points on each input's grid, widened by this share of its width."""
    low, high = basis.domain.T
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(n, IN, generator=generator, dtype=torch.float64).to(low)
    return low - beyond * (high - low) + share * (1 + 2 * beyond) * (high - low)


def beyond(basis):
    """What extrapolation allows."""
    return 0.0 if basis.extrapolation == "error" else 0.7


def sinc(z):
    """The integral over s of cos(pi s z), smooth at zero too."""
    nodes, weights = leggauss(40)
    s, w = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    return (torch.cos(pi * s * z[..., None]) * w).sum(-1)


MOTHERS = {
    "mexican_hat": lambda z: 2 / (sqrt(3) * pi**0.25) * (1 - z**2) * torch.exp(-(z**2) / 2),
    "morlet": lambda z: torch.cos(5 * z) * torch.exp(-(z**2) / 2),
    "dog": lambda z: -z * torch.exp(-(z**2) / 2),
    "shannon": lambda z: sinc(z / 2) * torch.cos(3 * pi * z / 2),
}
PLACES = [  # of three cells, of two, of one: centre and scale on [-1, 1]
    *[(-2 / 3, 2 / 3), (0.0, 2 / 3), (2 / 3, 2 / 3)],
    *[(-0.5, 1.0), (0.5, 1.0)],
    (0.0, 2.0),
]


def polynomials(name, t):
    """P_0 to P_4 in explicit form, but for Gram's lengths."""
    if name == "chebyshev":
        return [1 + 0 * t, t, 2 * t**2 - 1, 4 * t**3 - 3 * t, 8 * t**4 - 8 * t**2 + 1]
    if name == "legendre":
        squares = [1 + 0 * t, t, (3 * t**2 - 1) / 2, (5 * t**3 - 3 * t) / 2]
        return [*squares, (35 * t**4 - 30 * t**2 + 3) / 8]
    m = (DEGREE + 1) ** 2
    points = (2 * torch.arange(m, dtype=t.dtype) + 1 - m) / m
    powers = points[:, None] ** torch.arange(DEGREE + 1)
    _, upper = torch.linalg.qr(powers / sqrt(m))  # orthonormal polynomials: powers / upper
    upper = upper * upper.diagonal().sign()[:, None]
    inverse = torch.linalg.inv(upper)
    return [sum(inverse[k, n] * t**k for k in range(n + 1)) + 0 * t for n in range(DEGREE + 1)]


def formulas(name, x, low, high):
    """Every function of an input with this grid, written down as the papers do."""
    u = (2 * x - low - high) / (high - low)
    base = torch.nn.functional.silu(x)
    if name == "rbf":
        h = (high - low) / CELLS
        return [base, *(torch.exp(-(((x - low - k * h) / h) ** 2)) for k in range(CELLS + 1))]
    if name in MOTHERS:
        return [base, 1 + 0 * x, *(MOTHERS[name]((u - c) / a) for c, a in PLACES)]
    functions = polynomials(name, u if name == "legendre" else torch.tanh(u))
    return functions if name == "chebyshev" else [base, *functions]


@each_name
def test_derivatives_equal_nested_autograd_of_the_formula(name):
    basis = make(name, "constant")
    x = draw(basis).requires_grad_()
    low, high = basis.domain.T
    functions = formulas(name, x, low, high)
    assert len(functions) == basis.n_functions
    for c, expected in enumerate(functions):
        for m in range(5):
            if m and expected.requires_grad:
                (expected,) = torch.autograd.grad(
                    expected.sum(), x, create_graph=True, materialize_grads=True
                )
            elif m:
                expected = torch.zeros_like(x)
            got = basis.evaluate(x, derivative=m)[..., c]
            tolerance = 1e-9 * max(1.0, expected.abs().max().item())
            torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


@each_pair
def test_gradients(name, extrapolation):
    basis = make(name, extrapolation)
    x = draw(basis, n=3, beyond=beyond(basis)).requires_grad_()
    assert gradcheck(basis.evaluate, x)
    assert gradgradcheck(basis.evaluate, x)
    assert gradcheck(lambda x: basis.evaluate(x, 1, 3, derivative=2), x, atol=1e-3, rtol=1e-5)


@each_pair
def test_derivative_equals_repeated_autograd(name, extrapolation):
    basis = make(name, extrapolation)
    x = draw(basis, beyond=beyond(basis)).requires_grad_()
    for c in range(basis.n_functions):
        result = basis.evaluate(x)[..., c]
        for m in range(1, 5):
            (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
            torch.testing.assert_close(result, basis.evaluate(x, derivative=m)[..., c])


@each_pair
def test_contract_and_both_in_one_equal_their_definitions(name, extrapolation):
    basis = make(name, extrapolation)
    x = draw(basis, beyond=beyond(basis))[:, 1:]
    grad = torch.randn(*x.shape, basis.n_functions, dtype=x.dtype)
    for m in range(4):
        given = grad.clone()
        torch.testing.assert_close(
            basis.contract(grad, x, 1, m), Basis.contract(basis, grad, x, 1, m)
        )
        values, contraction = basis.values_and_contract(grad, x, 1, m)
        torch.testing.assert_close(values, basis.values(x, 1, m))
        torch.testing.assert_close(contraction, basis.contract(grad, x, 1, m + 1))
        assert torch.equal(grad, given)


@each_pair
@pytest.mark.parametrize("knots", KNOTS)
def test_block_is_a_slice_of_the_whole(name, extrapolation, knots):
    basis = make(name, extrapolation, knots)
    x = draw(basis, beyond=beyond(basis))
    for m in (0, 1, 2):
        whole = basis.evaluate(x, derivative=m)
        for start, stop in [(0, 1), (1, 3), (2, 3), (0, 3)]:
            block = basis.evaluate(x, start, stop, derivative=m)
            torch.testing.assert_close(block, whole[:, start:stop])


@each_name
def test_all_extrapolations_agree_inside(name):
    x = draw(make(name))
    for m in range(4):
        linear = make(name).evaluate(x, derivative=m)
        for extrapolation in EXTRAPOLATIONS[1 + (name == "legendre") :]:
            other = make(name, extrapolation).evaluate(x, derivative=m)
            torch.testing.assert_close(other, linear, rtol=0, atol=0)


@each_name
def test_linear_and_constant_outside(name):
    for extrapolation, highest in (("linear", 1), ("constant", 0)):
        basis = make(name, extrapolation)
        low, high = basis.domain.T
        share = torch.linspace(0.01, 2.0, 20, dtype=low.dtype)[:, None] * (high - low)
        x = torch.cat([low - share, high + share])
        end = x.clamp(low, high)
        expected = basis.evaluate(end)
        if highest:
            slope = basis.evaluate(end, derivative=1)
            expected = expected + (x - end)[..., None] * slope
            torch.testing.assert_close(basis.evaluate(x, derivative=1), slope)
        torch.testing.assert_close(basis.evaluate(x), expected)
        for m in range(highest + 1, 4):
            assert not basis.evaluate(x, derivative=m).any()


@each_name
def test_base_leaves_the_functions_as_they_are(name):
    if name == "legendre":
        with pytest.raises(ValueError, match=r'"base" contradicts Legendre.*linear'):
            make(name, "base")
        return
    basis = make(name, "base")
    x = draw(basis, beyond=2.0)
    expected = torch.stack(formulas(name, x, *basis.domain.T), -1)
    torch.testing.assert_close(basis.evaluate(x), expected, rtol=1e-9, atol=1e-9)
    far = torch.tensor([[-1e4], [1e4]], dtype=x.dtype).expand(-1, IN)
    if basis.has_silu:
        torch.testing.assert_close(basis.evaluate(far)[..., 0], silu(far))
    assert basis.evaluate(far)[..., 1:].abs().max() < 40


@each_name
def test_error_names_the_remedy_and_allows_the_ends(name):
    basis = make(name, "error")
    ends = basis.domain.T.contiguous()
    assert torch.isfinite(basis.evaluate(ends)).all()
    for shift in (-1e-6, 1e-6):
        with pytest.raises(ValueError, match=r'extrapolation="error".*linear'):
            basis.evaluate(ends + shift)


@each_name
def test_float32_equals_float64(name):
    single, double = make(name, dtype=torch.float32), make(name)
    x = draw(single, beyond=0.7)
    for m in range(4):
        got, expected = single.evaluate(x, derivative=m), double.evaluate(x.double(), derivative=m)
        assert got.dtype == torch.float32
        tolerance = 2e-5 * expected.abs().max().item()
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=tolerance)


@each_name
def test_half_precision_and_autocast_are_evaluated_in_the_precision_of_the_knots(name):
    basis = make(name, dtype=torch.float32)
    x = draw(basis, beyond=0.5).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        features = basis.evaluate(x)
    torch.testing.assert_close(features, basis.evaluate(x.float()), rtol=0, atol=0)
    features.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert x.grad.any()


@each_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_the_grid_and_far_away(name, dtype):
    for extrapolation in ("linear", "constant", "base")[: 2 if name == "legendre" else 3]:
        basis = make(name, extrapolation, dtype=dtype)
        low, high = basis.domain.T
        grid = low + torch.linspace(0, 1, 4 * CELLS + 1, dtype=dtype)[:, None] * (high - low)
        far = torch.tensor([[-1e6], [1e6], [-1e15], [1e15]], dtype=dtype).expand(-1, IN)
        x = torch.cat([grid, far]).requires_grad_()
        for m in range(4):
            features = basis.evaluate(x, derivative=m)
            (grad,) = torch.autograd.grad(features.sum(), x)
            assert torch.isfinite(features).all()
            assert torch.isfinite(grad).all()


@each_name
def test_nan_gives_nan_in_its_own_place(name):
    basis = make(name)
    x = draw(basis)
    expected = basis.evaluate(x)
    x[2, 1] = torch.nan
    features = basis.evaluate(x)
    assert features[2, 1].isnan().any()
    features[2, 1] = expected[2, 1]
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


@each_name
def test_no_rows_and_domain(name):
    basis = make(name)
    assert basis.evaluate(torch.zeros(0, IN)).shape == (0, IN, basis.n_functions)
    torch.testing.assert_close(basis.domain, torch.tensor(KNOTS["ends"], dtype=torch.float64))
    shared = make(name, knots="shared").domain
    torch.testing.assert_close(shared, torch.tensor([[-1.0, 1.0]] * 3, dtype=torch.float64))


@each_name
def test_state_is_the_grid_and_nothing_is_trained(name):
    basis = make(name)
    assert [*basis.state_dict()] == ["ends"]
    assert not [*basis.parameters()]
    other = make_basis(
        name, IN, grid_size=CELLS, degree=DEGREE, knots=[[0.0, 9.0]] * IN, dtype=torch.float64
    )
    other.load_state_dict(basis.state_dict())
    x = draw(basis)
    torch.testing.assert_close(other.evaluate(x), basis.evaluate(x), rtol=0, atol=0)


@each_name
@pytest.mark.parametrize(
    ("knots", "named"),
    [
        ((1.0, -1.0), r"strictly increasing.*\[1.0"),
        ([[0.0, 1.0], [2.0, 2.0]], r"strictly increasing.*2.0.*row 1"),
        ([[0.0, 1.0], [0.0, np.nan]], "finite.*nan.*row 1"),
        (np.zeros((2, 5)), r"shape.*\(2, 2\).*got shape \(2, 5\)"),
    ],
)
def test_bad_knots_raise(name, knots, named):
    with pytest.raises(ValueError, match=f"knots .*{named}"):
        make_basis(name, 2, knots=knots, dtype=torch.float32)


@each_name
def test_bad_sizes_and_extrapolation_raise(name):
    size = "degree" if name in ("chebyshev", "legendre", "gram") else "grid_size"
    for bad in ("in_features", size):
        with pytest.raises(ValueError, match=rf"{bad}.*at least 1.*-7"):
            make_basis(name, **({"in_features": 2} | {bad: -7}))
    with pytest.raises(ValueError, match=r"extrapolation must be one of .*'nearest'"):
        make_basis(name, 2, extrapolation="nearest")


def test_unknown_name_raises():
    with pytest.raises(ValueError, match=r"basis must be one of .*'fourier'"):
        make_basis("fourier", 2)
