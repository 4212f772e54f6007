"""Gaussians at the knots of the grid, as FastKAN's."""

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite import hermval

from sklearn_metakan.basis import RBFBasis


def test_default_is_fastkans():
    """8 centres on [-2, 2], as wide as they are apart, beside silu."""
    basis = RBFBasis(1, dtype=torch.float64)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    centres = torch.linspace(-2, 2, 8, dtype=torch.float64)
    expected = torch.exp(-(((x - centres) / (4 / 7)) ** 2))
    features = basis.evaluate(x)
    assert basis.n_functions == 9
    torch.testing.assert_close(features[:, 0, 1:], expected)
    torch.testing.assert_close(features[:, 0, 0], torch.nn.functional.silu(x[:, 0]))


def test_each_is_one_at_its_centre():
    basis = RBFBasis(2, 4, [[0.0, 4.0], [-1.0, 1.0]], dtype=torch.float64)
    centres = torch.stack([torch.linspace(0, 4, 5), torch.linspace(-1, 1, 5)], 1).double()
    peaks = basis.evaluate(centres)[..., 1:].diagonal(dim1=0, dim2=2)
    torch.testing.assert_close(peaks, torch.ones_like(peaks))


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_derivatives_are_hermite_polynomials(order):
    basis = RBFBasis(1, 2, (-2.0, 2.0), dtype=torch.float64)
    s = np.linspace(-2, 2, 30) / 2  # in widths, from the centre in the middle
    coefficients = np.eye(order + 1)[order]
    expected = (-0.5) ** order * hermval(s, coefficients) * np.exp(-(s**2))
    got = basis.evaluate(torch.from_numpy(2 * s)[:, None], derivative=order)[:, 0, 2]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def test_a_sum_of_all_is_nearly_constant_in_the_middle():
    """Neighbours one width apart: within 2 exp(-pi^2) of sqrt(pi), so edges hold constants."""
    basis = RBFBasis(1, 12, (-6.0, 6.0), dtype=torch.float64)
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    total = basis.evaluate(x)[..., 1:].sum(-1)
    assert (total - torch.pi**0.5).abs().max() < 1e-3
