"""Mother wavelets have mean zero and known norms; the family covers the grid on all scales."""

from math import pi
from typing import get_args

import numpy as np
import pytest
import torch

from sklearn_metakan.basis import WaveletBasis
from sklearn_metakan.basis.wavelets import Mother, _sinc

MOTHERS = get_args(Mother)
each_mother = pytest.mark.parametrize("mother", MOTHERS)


def mother_at(mother, z):
    """psi(z) alone: the single wavelet of one cell on [-1, 1], of scale 2."""
    basis = WaveletBasis(1, mother, 1, extrapolation="base", dtype=torch.float64)
    assert basis.n_functions == 3
    return basis.evaluate(2 * z[:, None])[:, 0, 2]


@each_mother
def test_mean_is_zero(mother):
    z = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    psi = mother_at(mother, z)
    if mother == "shannon":  # falls off as 1 / z: its running mean, over whole periods
        psi = psi * torch.exp(-((z / 8) ** 2) / 2)
    # Morlet's mean is exp(-12.5) of its envelope's, as without the usual correction
    tolerance = {"morlet": 2e-5}.get(mother, 1e-6)
    assert torch.trapezoid(psi, z).abs() < tolerance


@pytest.mark.parametrize(
    ("mother", "square"), [("mexican_hat", 1.0), ("dog", pi**0.5 / 2), ("shannon", 1.0)]
)
def test_norms(mother, square):
    z = torch.linspace(-400, 400, 400_001, dtype=torch.float64)
    norm = torch.trapezoid(mother_at(mother, z).square(), z)
    assert abs(norm - square) < 2e-3 if mother == "shannon" else abs(norm - square) < 1e-9


@each_mother
def test_symmetry(mother):
    z = torch.linspace(0, 5, 50, dtype=torch.float64)
    sign = -1 if mother == "dog" else 1
    torch.testing.assert_close(mother_at(mother, -z), sign * mother_at(mother, z))


def test_mexican_hat_is_minus_the_slope_of_the_derivative_of_a_gaussian():
    z = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    hat, dog = (WaveletBasis(1, name, 4, dtype=torch.float64) for name in ("mexican_hat", "dog"))
    slopes = dog.evaluate(z.clamp(-1, 1), derivative=1)[..., 2:] * dog.places[1, 2:]
    factor = -2 / (3**0.5 * pi**0.25)
    torch.testing.assert_close(hat.evaluate(z.clamp(-1, 1))[..., 2:], factor * slopes)


@pytest.mark.parametrize(("cells", "count"), [(1, 1), (2, 3), (3, 6), (4, 7), (5, 11), (8, 15)])
def test_levels_halve_the_cells_down_to_one(cells, count):
    basis = WaveletBasis(1, grid_size=cells, dtype=torch.float64)
    centres, scales = basis.places[:, 2:]
    assert len(centres) == count
    assert basis.n_functions == count + 2
    np.testing.assert_allclose(scales[:cells], 2 / cells)
    assert (centres[-1], scales[-1]) == (0, 2)
    for scale in scales.unique():
        level = centres[scales == scale]
        np.testing.assert_allclose(
            level, (np.arange(len(level)) + 0.5) * scale.item() - 1, atol=1e-15
        )


@each_mother
def test_every_point_is_seen_by_every_level(mother):
    """Values or slopes of order one everywhere: gradients flow from the start."""
    basis = WaveletBasis(1, mother, 8, dtype=torch.float64)
    x = torch.linspace(-1, 1, 201, dtype=torch.float64)[:, None]
    values = basis.evaluate(x)[:, 0, 2:]
    slopes = basis.evaluate(x, derivative=1)[:, 0, 2:] * basis.places[1, 2:]
    size = values.square() + slopes.square()
    for scale in basis.places[1, 2:].unique():
        assert size[:, basis.places[1, 2:] == scale].sum(1).min() > 0.1


@pytest.mark.parametrize("order", range(8))
def test_sinc_derivatives_at_zero_and_around_the_switch(order):
    """Both formulas meet; at zero the Taylor coefficient."""
    edge = max(1.0, order)
    y = torch.tensor([0.0, edge, np.nextafter(edge, 0.0)], dtype=torch.float64)
    at_zero, right, left = _sinc(y, order)
    expected = 0.0 if order % 2 else (-1) ** (order // 2) / (order + 1)
    assert at_zero == pytest.approx(expected, abs=1e-15)
    assert left == pytest.approx(right.item(), rel=1e-9, abs=1e-12)


def test_unknown_mother_raises():
    with pytest.raises(ValueError, match=r"mother must be one of .*'haar'"):
        WaveletBasis(1, "haar")
