"""Errors fall with finer grids as cubic splines' must."""

import pytest

from benchmarks.pde.order import measure, with_orders


def test_orders_of_cubic_splines():
    """h^4, h^3 and h^2 of u, u' and u''; Gauss and Newton find the one spline of least squares."""
    rows = [measure(cells, [], 0, 20) for cells in (4, 8)]
    _, orders = with_orders(rows).to_dict("records")
    for name, order in {"u": 4, "u'": 3, "u''": 2}.items():
        assert orders[f"order of {name}"] == pytest.approx(order, abs=0.5)
    again = measure(8, [], 1, 20)
    assert again["u"] == pytest.approx(rows[1]["u"], rel=1e-6)
