"""The step through one layer: its own gradients are those of plain PyTorch."""

import pytest
import torch
from torch.autograd import gradcheck

from sklearn_metakan.nn import build_network
from sklearn_metakan.pde.derivatives.channels import Sum, bell, channels
from sklearn_metakan.pde.derivatives.edge_jet import _EdgeJet, edge_jet_plain


@pytest.mark.parametrize("rows", [[4], [2, 1], pytest.param([4, 3, 1], marks=pytest.mark.slow)])
def test_function_is_the_plain_formula(source, rows):
    layer = build_network([3, 2], grid_size=2, dtype=torch.float64, **source).layers[0]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    by_input, shared = layer.source.tensors()
    dictionary = layer.source.dictionary(shared)
    weights = layer.source.generate(by_input, shared).detach().contiguous().requires_grad_()
    if dictionary is not None:
        dictionary = dictionary.detach().requires_grad_()
    x, products = draw(5, 3), [draw(5, k, 3) for k in rows]
    found = _EdgeJet.apply(x, layer.basis, dictionary, weights, *products)
    expected = edge_jet_plain(x, layer.basis, dictionary, weights, products)
    torch.testing.assert_close(found, expected)
    call = lambda x, weights, *p: _EdgeJet.apply(x, layer.basis, dictionary, weights, *p)  # noqa: E731
    assert gradcheck(call, (x, weights, *products))


def test_channels_are_closed_and_ordered():
    plan = channels([(1, 0, 1)], [Sum((0, 2), 1.0)])
    assert plan.indices == ((0,), (1,), (2,), (0, 1), (1, 1), (0, 1, 1))
    assert (plan.n_channels, plan.order, plan.n_first) == (7, 3, 3)
    assert [plan.from_order(m) for m in (1, 2, 3)] == [0, 3, 6]
    assert plan.sum_position(0) == 3
    assert plan.position((0, 1, 1)) == 6


def test_faa_di_bruno():
    """exp of a polynomial, order four in one variable: the complete Bell polynomial."""
    plan = channels([(0, 0, 0, 0)])
    values = torch.tensor([[[2.0], [3.0], [5.0], [7.0]]])
    p1, p2, p3, p4 = bell(values, plan)
    assert p1[0, -1] == 7
    assert p2[0, -1] == 4 * 2 * 5 + 3 * 3**2
    assert p3[0, -1] == 6 * 2**2 * 3
    assert p4[0, -1] == 2**4
