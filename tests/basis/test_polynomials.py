"""The three-term recurrence gives numpy's and scipy's polynomials, orthogonal as they are."""

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev, legendre
from scipy.special import roots_chebyt, roots_legendre

from sklearn_metakan.basis import PolynomialBasis

DEGREE = 7
each_kind = pytest.mark.parametrize("kind", ["chebyshev", "legendre", "gram"])


def polynomials_at(kind, t, degree=DEGREE):
    """P_0(t) to P_d(t), one row a point."""
    u = t if kind == "legendre" else np.arctanh(t)
    ends = (-10.0, 10.0)
    basis = PolynomialBasis(1, kind, degree, ends, dtype=torch.float64)
    first = 1 if basis.has_silu else 0
    return basis.evaluate(torch.from_numpy(10 * u)[:, None])[:, 0, first:].numpy()


@pytest.mark.parametrize(
    ("kind", "vander"), [("chebyshev", chebyshev.chebvander), ("legendre", legendre.legvander)]
)
def test_equals_numpy(kind, vander):
    t = np.linspace(-0.76, 0.76, 31)
    np.testing.assert_allclose(polynomials_at(kind, t), vander(t, DEGREE), atol=1e-12)


def test_legendre_is_orthogonal_over_the_grid():
    t, weights = roots_legendre(DEGREE + 1)
    values = polynomials_at("legendre", t)
    lengths = 2 / (2 * np.arange(DEGREE + 1) + 1)
    np.testing.assert_allclose(values.T @ (weights[:, None] * values), np.diag(lengths), atol=1e-12)


def test_chebyshev_is_orthogonal_under_its_weight():
    t, weights = roots_chebyt(DEGREE + 1)
    basis = PolynomialBasis(1, "chebyshev", DEGREE, extrapolation="base", dtype=torch.float64)
    values = basis.evaluate(torch.from_numpy(np.arctanh(t))[:, None])[:, 0].numpy()
    lengths = np.full(DEGREE + 1, np.pi / 2)
    lengths[0] = np.pi
    np.testing.assert_allclose(values.T @ (weights[:, None] * values), np.diag(lengths), atol=1e-12)


@pytest.mark.parametrize("degree", [1, 3, 6])
def test_gram_is_orthonormal_over_its_points(degree):
    m = (degree + 1) ** 2
    t = (2 * np.arange(m) + 1 - m) / m
    basis = PolynomialBasis(1, "gram", degree, extrapolation="base", dtype=torch.float64)
    values = basis.evaluate(torch.from_numpy(np.arctanh(t))[:, None])[:, 0, 1:].numpy()
    np.testing.assert_allclose(values.T @ values / m, np.eye(degree + 1), atol=1e-10)


@each_kind
def test_every_degree_spans_the_powers(kind):
    """Highest coefficients do not vanish: a triangular change of basis from 1, t, ..., t^d."""
    t = np.linspace(-0.7, 0.7, 40)
    values = polynomials_at(kind, t)
    coefficients, *_ = np.linalg.lstsq(np.vander(t, DEGREE + 1, increasing=True), values)
    assert np.abs(np.tril(coefficients, -1)).max() < 1e-6
    assert coefficients.diagonal().min() >= 1 - 1e-6


@pytest.mark.parametrize("kind", ["chebyshev", "legendre"])
def test_lower_degree_is_the_beginning(kind):
    t = np.linspace(-0.7, 0.7, 9)
    np.testing.assert_array_equal(polynomials_at(kind, t, 3), polynomials_at(kind, t)[:, :4])


@pytest.mark.parametrize(("kind", "count"), [("chebyshev", 7), ("legendre", 8), ("gram", 8)])
def test_functions_of_the_paper(kind, count):
    """KACN has no base function, KALN and KAGN have silu."""
    assert PolynomialBasis(1, kind, 6).n_functions == count


def test_tanh_keeps_its_digits_in_the_tails():
    """Slopes of tanh at 18 are 1e-15 of those in the middle, and still right."""
    basis = PolynomialBasis(1, "chebyshev", 1, extrapolation="base", dtype=torch.float64)
    x = torch.tensor([[-18.0], [18.0]], dtype=torch.float64)
    for m, factor in ((1, 4), (2, -8)):
        got = basis.evaluate(x, derivative=m)[:, 0, 1]
        expected = factor * torch.exp(-2 * x[:, 0].abs()) * x[:, 0].sign() ** (m - 1)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


def test_unknown_polynomials_raise():
    with pytest.raises(ValueError, match=r"polynomials must be one of .*'hermite'"):
        PolynomialBasis(1, "hermite")
