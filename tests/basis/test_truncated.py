"""Truncated powers span the splines: the same values, slopes and ways back, inside and beyond."""

import pytest
import torch

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.basis._truncated import TruncatedPowers, spans
from sklearn_metakan.nn import KANLinear, MetaCoefficients, MetaLearner

ENDS = {"shared": (-1.0, 1.0), "own": [[-1.0, 1.0], [0.0, 3.0], [-2.0, 0.5]]}
SIZES = [(1, 2), (2, 3), (1, 5), (4, 3), (5, 2), (5, 3), (7, 2)]  # cells, degree
each_grid = pytest.mark.parametrize("ends", ENDS)
each_size = pytest.mark.parametrize(("cells", "degree"), SIZES)
each_extrapolation = pytest.mark.parametrize("extrapolation", ["linear", "constant"])


class FromPowers:
    """Splines as sums of truncated powers."""

    def __init__(self, basis, highest):
        self.functions = basis.in_other_functions(highest)
        assert isinstance(self.functions, TruncatedPowers)
        self.matrix = self.functions.matrix

    def values(self, *call):
        return self.functions.values(*call) @ self.matrix

    def contract(self, grad, *call):
        return self.functions.contract(grad @ self.matrix.T, *call)

    def values_and_contract(self, grad, *call):
        values, contracted = self.functions.values_and_contract(grad @ self.matrix.T, *call)
        return values @ self.matrix, contracted


def both(ends, cells=5, degree=3, extrapolation="linear", dtype=torch.float64):
    """From truncated powers, and the naive twin: splines on each cell, put into their places."""
    local = BSplineBasis(3, cells, degree, ENDS[ends], extrapolation, dtype)
    return FromPowers(local, degree - 1), local


def draw(*shape, dtype=torch.float64):
    return 1.5 * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@each_grid
@each_size
@each_extrapolation
def test_equal_local_splines(ends, cells, degree, extrapolation):
    basis, local = both(ends, cells, degree, extrapolation)
    x, grad = draw(200, 3), draw(200, 3, local.n_functions)
    for m in range(degree):
        want = local.values(x, 0, m)
        torch.testing.assert_close(basis.values(x, 0, m), want, rtol=1e-11, atol=1e-11)
        want = local.contract(grad, x, 0, m)
        torch.testing.assert_close(basis.contract(grad, x, 0, m), want, rtol=1e-10, atol=1e-10)
    for m in range(degree - 1):
        values, contracted = basis.values_and_contract(grad, x, 0, m)
        assert torch.equal(values, basis.values(x, 0, m))
        assert torch.equal(contracted, basis.contract(grad, x, 0, m + 1))


@each_grid
def test_equal_in_float32_to_the_digits_that_it_has(ends):
    basis, _ = both(ends, dtype=torch.float32)
    _, local = both(ends)
    x = draw(500, 3, dtype=torch.float32)
    for m in range(3):
        want = local.values(x.double(), 0, m)
        error = (basis.values(x, 0, m) - want).abs().max() / want.abs().max()
        assert error < 1e-5


@each_grid
def test_a_block_of_inputs(ends):
    basis, local = both(ends)
    x = draw(50, 2)
    torch.testing.assert_close(basis.values(x, 1, 0), local.values(x, 1, 0))


@each_extrapolation
def test_far_away_and_nan(extrapolation):
    basis, _ = both("own", extrapolation=extrapolation)
    x = torch.tensor([[1e9, -1e9, 0.1], [float("nan"), 0.0, -0.2]], dtype=torch.float64)
    for m in range(3):
        values = basis.values(x, 0, m)
        assert values[0].isfinite().all() and values[1, 1:].isfinite().all()
        flat = m > (1 if extrapolation == "linear" else 0)
        assert flat or values[1, 0].isnan().any()


@each_extrapolation
def test_infinite_inputs_are_as_far_as_they_can_be(extrapolation):
    basis, _ = both("shared", extrapolation=extrapolation)
    x = torch.tensor([[float("inf"), -float("inf"), 0.5]], dtype=torch.float64)
    values = basis.values(x, 0, 0)
    assert values[0, 2].isfinite().all()
    assert values[0, :2].isfinite().all() == (extrapolation == "constant")


def test_error_beyond_the_grid():
    basis, _ = both("own", extrapolation="error")
    ends = torch.tensor([[-1.0, 3.0, -2.0]], dtype=torch.float64)
    assert basis.values(ends, 0, 0).isfinite().all()
    with pytest.raises(ValueError, match="outside the grid"):
        basis.values(ends + 0.1, 0, 0)


def dictionary_gradient(x, backend, dtype, knots=(-1.0, 1.0)):
    learner = MetaLearner(2, 0, 9)
    source = MetaCoefficients(x.shape[1], 4, learner)
    layer = KANLinear(x.shape[1], 4, BSplineBasis(x.shape[1], knots=knots), source, backend=backend)
    for parameter in layer.parameters():
        generator = torch.Generator().manual_seed(3)
        torch.nn.init.normal_(parameter, generator=generator)
    layer.to(dtype)
    y = layer(x.to(dtype))
    y.backward(torch.cos(torch.arange(y.numel(), dtype=dtype)).view(y.shape))
    return y.detach().double(), learner.output_weight.grad.double()


def test_a_dictionary_learns_nothing_of_splines_that_no_input_reaches():
    x = torch.rand(500, 8, generator=torch.Generator().manual_seed(0)) * 0.3 - 1.0
    _, gradient = dictionary_gradient(x, "blocked", torch.float32)
    assert gradient[1 + 4 :].eq(0.0).all() and gradient[:5].ne(0.0).all()


def test_an_input_far_away_does_not_drown_the_others():
    x = draw(2000, 8).div(3).clamp(-1, 1)
    x[0, 0] = 1e6
    _, want = dictionary_gradient(x, "reference", torch.float64)
    errors = {}
    for backend in ("reference", "blocked"):
        _, got = dictionary_gradient(x, backend, torch.float32)
        errors[backend] = (got - want).abs().amax(1) / want.abs().amax(1)
    assert (errors["blocked"] < errors["reference"].mul(2) + 2e-5).all()


def test_a_grid_far_from_zero_keeps_its_digits():
    knots = (1000.1, 1001.3)
    x = (1000.2 + draw(300, 3).abs() / 5).float()
    want, _ = dictionary_gradient(x, "reference", torch.float32, knots)
    got, _ = dictionary_gradient(x, "blocked", torch.float32, knots)
    assert (got - want).abs().max() / want.abs().max() < 2e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_cast_to_double_computes_in_double(dtype):
    source = MetaCoefficients(3, 4, MetaLearner(2, 0, 9, dtype=dtype), dtype=dtype)
    layer = KANLinear(3, 4, BSplineBasis(3, dtype=dtype), source, dtype=dtype).double()
    assert torch.equal(layer.basis.polynomials, BSplineBasis(3, dtype=torch.float64).polynomials)
    found = []
    for backend in ("reference", "blocked"):
        layer.backend = backend
        found.append(layer(draw(300, 3)))
    torch.testing.assert_close(*found, rtol=0, atol=1e-14 * found[0].abs().max().item())


def test_the_default_device_does_not_matter():
    layer = KANLinear(3, 2, source=MetaCoefficients(3, 2, MetaLearner(2, 0, 9)), backend="blocked")
    x = draw(4, 3).float()
    with torch.device("meta"):
        y = layer(x)
    assert y.device.type == "cpu"


@pytest.mark.parametrize(
    ("change", "derivative"),
    [
        ({"grid_size": 20}, 0),
        ({"degree": 1}, 0),
        ({"extrapolation": "base"}, 0),
        ({"knots": [[-1.0, 0.0, 2.0], [0.0, 1.0, 3.0], [0.0, 1.0, 2.0]], "grid_size": 2}, 0),
        ({}, 3),
    ],
)
def test_other_splines_are_made_cell_by_cell(change, derivative):
    basis = BSplineBasis(3, **change)
    assert basis.in_other_functions(derivative) is basis


def test_few_cells_alone_keep_their_digits():
    assert spans(5, 3, 2)
    assert not spans(8, 3, 0)
    assert not spans(5, 5, 0)
