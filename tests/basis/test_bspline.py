"""B-splines equal scipy's, and keep their promises at and beyond the ends of the grid."""

import sys

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_metakan.basis import Basis, BSplineBasis, quantile_knots
from sklearn_metakan.basis.base import silu
from sklearn_metakan.basis.knots import uniform_cell

IN, CELLS = 3, 5
KNOTS = {
    "shared": (-1.0, 1.0),
    "ends": [[-1.0, 1.0], [0.0, 3.0], [-2.0, 0.5]],
    "quantile": quantile_knots(np.random.default_rng(0).normal(size=(200, IN)), CELLS),
}
EXTRAPOLATIONS = ["linear", "base", "constant", "error"]
each_knots = pytest.mark.parametrize("knots", KNOTS)
each_extrapolation = pytest.mark.parametrize("extrapolation", EXTRAPOLATIONS)


def make(knots="shared", degree=3, extrapolation="linear", dtype=torch.float64):
    return BSplineBasis(IN, CELLS, degree, KNOTS[knots], extrapolation, dtype=dtype)


def draw(basis, n=40, beyond=0.0, seed=0):
    """Random points on each input's grid, widened by this share of its width; not on a knot."""
    low, high = basis.domain.double().T
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(n, IN, generator=generator, dtype=torch.float64)
    x = low - beyond * (high - low) + share * (1 + 2 * beyond) * (high - low)
    margin = 1e-3 * (high - low)
    near = (x[:, :, None] - basis.breaks.double()).abs() < margin[:, None]
    return torch.where(near.any(-1), x + 2.5 * margin, x).to(basis.domain.dtype)


def draw_outside(basis):
    low, high = basis.domain.T
    share = torch.linspace(0.01, 2.0, 20, dtype=low.dtype)[:, None] * (high - low)
    return torch.cat([low - share, high + share])


def all_knots(basis):
    """Knots of the extended grid, (G + 1 + 2 k, IN)."""
    return basis.breaks.T.expand(-1, IN).contiguous()


def scipy_splines(basis, x, derivative=0):
    """(n, IN, m): every spline alone, zero outside its own knots."""
    out = np.zeros((*x.shape, basis.n_functions - 1))
    for i, t in enumerate(all_knots(basis).double().numpy().T):
        for c in range(out.shape[2]):
            element = BSpline.basis_element(t[c : c + basis.degree + 2], extrapolate=False)
            out[:, i, c] = np.nan_to_num(element(x[:, i].double().numpy(), nu=derivative))
    return torch.from_numpy(out)


def assert_close(got, expected, ulps=1e4):
    """Equal to so many units of the last place of the largest number."""
    assert got.shape == expected.shape
    largest = expected.abs().max().item() or 1.0
    tolerance = ulps * torch.finfo(got.dtype).eps * largest
    torch.testing.assert_close(got.double(), expected.double(), rtol=0, atol=tolerance)


@each_knots
@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_equals_scipy_inside(knots, degree):
    basis = make(knots, degree)
    x = draw(basis)
    for m in range(degree + 1):
        assert_close(basis.evaluate(x, derivative=m)[..., 1:], scipy_splines(basis, x, m))


@each_knots
@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_equals_scipy_in_the_tails(knots, degree):
    basis = make(knots, degree, "base")
    x = draw(basis, n=80, beyond=1.2)
    x = torch.cat([x, draw_outside(basis)])
    for m in range(degree + 1):
        features = basis.evaluate(x, derivative=m)
        assert_close(features[..., 1:], scipy_splines(basis, x, m))
        assert_close(features[..., 0], silu(x, m))


@each_knots
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_equals_scipy_at_the_knots(knots, degree):
    """Orders below the degree are continuous, so the side does not matter."""
    basis = make(knots, degree, "base")
    x = all_knots(basis)
    for m in range(degree):
        # scipy calls a spline's last knot outside; all orders below the degree vanish there
        assert_close(basis.evaluate(x, derivative=m)[..., 1:], scipy_splines(basis, x, m))


@each_knots
@each_extrapolation
def test_splines_sum_to_one(knots, extrapolation):
    basis = make(knots, extrapolation=extrapolation)
    low, high = basis.domain.T
    x = torch.cat([draw(basis), torch.stack([low, high])])
    assert_close(basis.evaluate(x)[..., 1:].sum(-1), torch.ones_like(x), ulps=10)
    assert basis.evaluate(x)[..., 1:].min() >= -torch.finfo(x.dtype).eps


@each_knots
def test_first_function_is_silu_inside(knots):
    basis = make(knots)
    x = draw(basis)
    for m in range(5):
        torch.testing.assert_close(basis.evaluate(x, derivative=m)[..., 0], silu(x, m))


@each_knots
def test_all_extrapolations_agree_inside(knots):
    x = draw(make(knots))
    for m in range(5):
        linear, *others = (
            make(knots, extrapolation=name).evaluate(x, derivative=m) for name in EXTRAPOLATIONS
        )
        for other in others:
            torch.testing.assert_close(other, linear, rtol=0, atol=0)


@each_knots
@pytest.mark.parametrize("degree", [1, 3])
def test_linear_continues_value_and_slope(knots, degree):
    basis = make(knots, degree)
    x = draw_outside(basis)
    end = x.clamp(*basis.domain.T)
    value, slope = basis.evaluate(end), basis.evaluate(end, derivative=1)
    assert slope.abs().max() > 0.1
    assert_close(basis.evaluate(x), value + (x - end)[..., None] * slope)
    assert_close(basis.evaluate(x, derivative=1), slope)
    for m in (2, 3):
        assert not basis.evaluate(x, derivative=m).any()


@each_knots
def test_constant_keeps_the_value_of_the_end(knots):
    basis = make(knots, extrapolation="constant")
    x = draw_outside(basis)
    assert_close(basis.evaluate(x), basis.evaluate(x.clamp(*basis.domain.T)))
    for m in (1, 2, 3):
        assert not basis.evaluate(x, derivative=m).any()


@each_knots
def test_error_names_the_remedy_and_allows_the_ends(knots):
    basis = make(knots, extrapolation="error")
    ends = basis.domain.T.contiguous()
    assert torch.isfinite(basis.evaluate(ends)).all()
    for shift in (-1e-6, 1e-6):
        with pytest.raises(ValueError, match=r'extrapolation="error".*linear'):
            basis.evaluate(ends + shift)


@each_knots
@pytest.mark.parametrize(
    ("extrapolation", "degree", "smooth"),
    [("linear", 3, 1), ("constant", 3, 0), ("base", 2, 1), ("base", 3, 2), ("base", 5, 4)],
)
def test_smoothness_at_the_knots(knots, extrapolation, degree, smooth):
    """Derivatives up to ``smooth`` agree from both sides of every knot, the next one jumps."""
    basis = make(knots, degree, extrapolation)
    step = 1e-7 * (basis.domain[:, 1] - basis.domain[:, 0])
    t = all_knots(basis)
    if extrapolation != "base":
        t = t[degree:-degree]

    def jump(m):
        left, right = (basis.evaluate(t + s, derivative=m) for s in (-step, step))
        return (right - left).abs().max()

    for m in range(smooth + 1):
        slope = basis.evaluate(torch.cat([t - step, t + step]), derivative=m + 1).abs().max()
        rounding = 1e4 * torch.finfo(t.dtype).eps * basis.evaluate(t, derivative=m).abs().max()
        assert jump(m) <= 3 * step.max() * slope + rounding
    assert jump(smooth + 1) > 0.1


@each_knots
@each_extrapolation
def test_block_is_a_slice_of_the_whole(knots, extrapolation):
    basis = make(knots, extrapolation=extrapolation)
    x = draw(basis, beyond=0.0 if extrapolation == "error" else 0.7)
    for m in (0, 1, 2):
        whole = basis.evaluate(x, derivative=m)
        for start, stop in [(0, 1), (1, 3), (2, 3), (0, 3)]:
            block = basis.evaluate(x, start, stop, derivative=m)
            assert_close(block, whole[:, start:stop], ulps=10)


@each_knots
def test_error_watches_its_block_alone(knots):
    basis = make(knots, extrapolation="error")
    x = draw(basis)
    x[3, 2] = 100.0
    torch.testing.assert_close(basis.evaluate(x, 0, 2), make(knots).evaluate(x, 0, 2))
    with pytest.raises(ValueError, match="outside the grid"):
        basis.evaluate(x, 2, 3)


@each_knots
@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
def test_float32_equals_float64(knots, extrapolation):
    single = make(knots, extrapolation=extrapolation, dtype=torch.float32)
    double = make(knots, extrapolation=extrapolation)
    x = draw(single, beyond=0.7)
    for m in range(4):
        got = single.evaluate(x, derivative=m)
        assert got.dtype == torch.float32
        assert_close(got, double.evaluate(x.double(), derivative=m), ulps=100)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_evaluated_in_the_precision_of_the_knots(half):
    basis = make(dtype=torch.float32)
    x = draw(basis, beyond=0.5).to(half).requires_grad_()
    features = basis.evaluate(x)
    torch.testing.assert_close(features, basis.evaluate(x.float()), rtol=0, atol=0)
    features[..., 1].sum().backward()
    assert x.grad.dtype == half
    assert x.grad.any()


@each_knots
@each_extrapolation
def test_gradients(knots, extrapolation):
    basis = make(knots, extrapolation=extrapolation)
    x = draw(basis, n=4, beyond=0.0 if extrapolation == "error" else 0.5).requires_grad_()
    assert gradcheck(basis.evaluate, x)
    assert gradgradcheck(basis.evaluate, x)
    assert gradcheck(lambda x: basis.evaluate(x, 1, 3, derivative=2), x)


@each_knots
@each_extrapolation
def test_derivative_equals_repeated_autograd(knots, extrapolation):
    basis = make(knots, degree=4, extrapolation=extrapolation)
    x = draw(basis, beyond=0.0 if extrapolation == "error" else 0.7).requires_grad_()
    for c in range(basis.n_functions):
        result = basis.evaluate(x)[..., c]
        for m in range(1, 5):
            (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
            torch.testing.assert_close(result, basis.evaluate(x, derivative=m)[..., c])


@each_knots
@each_extrapolation
def test_contract_equals_its_definition(knots, extrapolation):
    basis = make(knots, extrapolation=extrapolation)
    x = draw(basis, beyond=0.0 if extrapolation == "error" else 1.0)[:, 1:]
    grad = torch.randn(*x.shape, basis.n_functions, dtype=x.dtype)
    for m in range(basis.degree + 2):
        expected = Basis.contract(basis, grad, x, 1, m)
        torch.testing.assert_close(basis.contract(grad, x, 1, m), expected)
        torch.testing.assert_close(expected, (grad * basis.values(x, 1, m)).sum(-1))


@each_knots
@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_knots_and_far_away(knots, extrapolation, dtype):
    basis = make(knots, extrapolation=extrapolation, dtype=dtype)
    t = all_knots(basis)
    far = torch.tensor([[-1e6], [1e6], [-1e30], [1e30]], dtype=dtype).expand(-1, IN)
    nearest = [torch.nextafter(t, torch.full_like(t, s)) for s in (-9.0, 9.0)]
    x = torch.cat([t, *nearest, far]).requires_grad_()
    for m in range(basis.degree + 2):
        features = basis.evaluate(x, derivative=m)
        (grad,) = torch.autograd.grad(features.sum(), x)
        assert torch.isfinite(features).all()
        assert torch.isfinite(grad).all()


@each_knots
@each_extrapolation
def test_nan_gives_nan_in_its_own_place(knots, extrapolation):
    basis = make(knots, extrapolation=extrapolation)
    x = draw(basis)
    expected = basis.evaluate(x)
    x[2, 1] = torch.nan
    features = basis.evaluate(x)
    assert features[2, 1, 0].isnan()
    features[2, 1] = expected[2, 1]
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


def test_no_rows():
    for knots in KNOTS:
        assert make(knots).evaluate(torch.zeros(0, IN)).shape == (0, IN, 1 + CELLS + 3)


@each_knots
def test_domain_is_the_grid(knots):
    domain = make(knots).domain
    given = np.broadcast_to(np.asarray(KNOTS[knots])[..., [0, -1]], (IN, 2))
    torch.testing.assert_close(domain, torch.from_numpy(given.copy()))


def test_uniform_grid_equals_the_same_knots_given_one_by_one():
    ends = np.asarray(KNOTS["ends"])
    listed = np.linspace(ends[:, 0], ends[:, 1], CELLS + 1, axis=1)
    uniform, free = make("ends"), BSplineBasis(IN, CELLS, knots=listed, dtype=torch.float64)
    x = draw(uniform, beyond=0.5)
    for m in range(4):
        assert_close(free.evaluate(x, derivative=m), uniform.evaluate(x, derivative=m))


@pytest.mark.parametrize("argument", ["in_features", "grid_size", "degree"])
def test_sizes_below_one_raise(argument):
    sizes = {"in_features": 2, "grid_size": 5, "degree": 3} | {argument: -7}
    with pytest.raises(ValueError, match=rf"{argument}.*at least 1.*-7"):
        BSplineBasis(**sizes)


def test_unknown_extrapolation_raises():
    with pytest.raises(ValueError, match=r"extrapolation must be one of .*'nearest'"):
        BSplineBasis(2, extrapolation="nearest")


@pytest.mark.parametrize(
    ("knots", "named"),
    [
        ((1.0, -1.0), r"strictly increasing.*\[1.0"),
        ([[0.0, 1.0], [2.0, 2.0]], r"strictly increasing.*2.0.*row 1"),
        ([[0.0, 1.0, 3.0, 2.0], [0.0, 1.0, 2.0, 3.0]], r"strictly increasing.*3.0, 2.0.*row 0"),
        ([[0.0, 1.0], [0.0, np.nan]], "finite.*nan.*row 1"),
        ([[0.0, 1.0, 2.0, np.inf], [0.0, 1.0, 2.0, 3.0]], "finite.*inf.*row 0"),
        ((1e8, 1e8 + 1), r"torch.float32.*100000000.0"),
        (np.zeros((2, 5)), r"shape.*\(2, 4\).*got shape \(2, 5\)"),
        (3.0, r"got shape \(\)"),
    ],
)
def test_bad_knots_raise(knots, named):
    with pytest.raises(ValueError, match=f"knots must .*{named}"):
        BSplineBasis(2, grid_size=3, knots=knots, dtype=torch.float32)


@pytest.mark.parametrize("extrapolation", ["linear", "base"])
def test_cells_among_many_knots(extrapolation):
    """Found by a binary search there, by counting among few: the same splines."""
    knots = np.sort(np.random.default_rng(0).uniform(-1, 1, (IN, 61)), axis=1)
    basis = BSplineBasis(IN, 60, 3, knots, extrapolation, dtype=torch.float64)
    x = draw(basis, n=300)
    for m in range(3):
        assert_close(basis.evaluate(x, derivative=m)[..., 1:], scipy_splines(basis, x, m))


@each_knots
@each_extrapolation
def test_values_and_contract_are_the_two_in_one(knots, extrapolation):
    basis = make(knots, extrapolation=extrapolation)
    x = draw(basis, beyond=0.0 if extrapolation == "error" else 0.3)[:, 1:]
    grad = torch.randn(*x.shape, basis.n_functions, dtype=x.dtype)
    for m in range(4):
        values, contraction = basis.values_and_contract(grad, x, 1, m)
        assert torch.equal(values, basis.values(x, 1, m))
        assert torch.equal(contraction, basis.contract(grad, x, 1, m + 1))
        both = Basis.values_and_contract(basis, grad, x, 1, m)
        assert torch.equal(both[0], values)
        assert_close(Basis.contract(basis, grad, x, 1, m + 1), contraction)


@each_knots
def test_one_row_of_one_input(knots):
    basis = make(knots)
    x = draw(basis)
    for m in range(4):
        whole = basis.evaluate(x, derivative=m)
        assert_close(basis.evaluate(x[:1], 2, 3, derivative=m), whole[:1, 2:])


def package_calls(function, *args, **options):
    """Python calls of functions of the package."""
    calls = []

    def watch(frame, event, _):
        if event == "call" and "sklearn_metakan" in frame.f_code.co_filename:
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(watch)
    try:
        function(*args, **options)
    finally:
        sys.setprofile(None)
    return [name for name in calls if not name.startswith(("package_calls", "test_"))]


def test_few_calls_for_a_basis_and_its_values():
    uniform_cell.cache_clear()
    assert len(package_calls(BSplineBasis, 3)) <= 4
    basis = make()
    for x in (draw(basis), draw(basis).requires_grad_()):
        assert len(package_calls(basis.evaluate, x)) <= 7


@each_knots
@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
@pytest.mark.parametrize("functions_first", [True, False])
def test_linearize_and_pull_in_float32_equal_float64(knots, extrapolation, functions_first):
    single = make(knots, extrapolation=extrapolation, dtype=torch.float32)
    double = make(knots, extrapolation=extrapolation)
    x = draw(single, n=400, beyond=0.7)
    found = []
    for basis in (single, double):
        features, _matrix, kept = basis.linearize(x.to(basis.domain.dtype), functions_first, True)
        found.append((features, basis.pull(torch.ones_like(features), kept)))
    for got, expected in zip(*found, strict=True):
        assert got.dtype == torch.float32
        assert_close(got, expected, ulps=100)


@each_knots
def test_what_is_held_of_knots_follows_them(knots):
    """Loaded into the same tensors, cast, or swapped for one call."""
    basis, other = make(knots), BSplineBasis(IN, CELLS, knots=(-3.0, 2.0), dtype=torch.float64)
    if knots != "shared":
        other = BSplineBasis(IN, CELLS, knots=1.5 * np.asarray(KNOTS[knots]), dtype=torch.float64)
    x = draw(basis, beyond=0.3)

    def assert_same(one, two):
        for m in range(3):
            expected = two.evaluate(x.to(two.domain.dtype), derivative=m)
            assert torch.equal(one.evaluate(x.to(one.domain.dtype), derivative=m), expected)

    first = basis.evaluate(x)
    swapped = torch.func.functional_call(Evaluate(basis), prefixed(other), (x,))
    assert torch.equal(swapped, other.evaluate(x)) and torch.equal(basis.evaluate(x), first)
    basis.load_state_dict(other.state_dict())
    assert_same(basis, other)
    assert_same(basis.float(), other.float())
    with torch.inference_mode():
        made = make(knots)
        made.evaluate(x)
    torch.testing.assert_close(made.evaluate(x), first)


class Evaluate(torch.nn.Module):
    def __init__(self, basis):
        super().__init__()
        self.basis = basis

    def forward(self, x):
        return self.basis.evaluate(x)


def prefixed(basis):
    return {f"basis.{name}": buffer for name, buffer in basis.state_dict().items()}


class Operations(TorchDispatchMode):
    """What is dispatched, and what of it computes or makes memory: all but views."""

    def __enter__(self):
        self.all, self.computing = 0, 0
        return super().__enter__()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.all += 1
        self.computing += not operation.is_view
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("functions_first", [True, False])
@pytest.mark.parametrize(("beyond", "dispatched", "computing"), [(0.0, 57, 30), (0.5, 60, 33)])
def test_operations_of_a_layer_there_and_back(functions_first, beyond, dispatched, computing):
    """They are what small networks pay for on a CPU; inside the grid, and beyond it."""
    basis = make()
    x = draw(basis, beyond=beyond).T.contiguous().T
    for _ in range(2):  # the first call finds out what is held of the knots
        with Operations() as counted:
            features, _, kept = basis.linearize(x, functions_first, wants_pull=True)
            basis.pull(features, kept)
    # As (C, b, n), features are one more view.
    assert (counted.all - functions_first, counted.computing) == (dispatched, computing)
