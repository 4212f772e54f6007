"""Ordered coefficients: functions rise or fall, whatever the numbers behind."""

import pytest
import torch

from sklearn_metakan.nn import KAN, MetaLearner, MonotoneCoefficients, frozen, refine
from sklearn_metakan.nn.monotone import ordered

DOUBLE = torch.float64
LEARNERS = {
    "direct": lambda: None,
    "linear": lambda: MetaLearner(3, 0, 9, dtype=DOUBLE),
    "sine": lambda: MetaLearner(2, 8, 9, "sin", dtype=DOUBLE),
}
SIGNS = [1, 0, -1]


def make(kind="direct", sizes=(3, 5, 4, 2), n_members=2, extrapolation="linear"):
    how = {"meta_learners": LEARNERS[kind](), "n_members": n_members, "dtype": DOUBLE}
    generator = torch.Generator().manual_seed(0)
    return KAN(sizes, monotone=SIGNS, generator=generator, extrapolation=extrapolation, **how)


def rising(generator, n=2000):
    """Rows, some of them far outside, and the same rows further on."""
    x = torch.randn(n, 3, generator=generator, dtype=DOUBLE)
    x[::3] *= 1e4
    step = torch.rand(n, 3, generator=generator, dtype=DOUBLE) * torch.tensor(SIGNS)
    step[::2] *= 1e3
    return x, x + step


@pytest.mark.parametrize("extrapolation", ["linear", "constant"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 5, 4, 2)], ids=str)
@pytest.mark.parametrize("kind", LEARNERS)
def test_outputs_rise(kind, sizes, extrapolation):
    network = make(kind, sizes, extrapolation=extrapolation)
    low, high = rising(torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = network(low), network(high)
    scale = before.abs().amax(1, keepdim=True) + 1
    assert ((after - before) / scale).min() > -1e-12
    assert (after - before).max() > 0.01


def test_what_is_ordered_already_stays():
    weights = torch.randn(4, 9, 5, dtype=DOUBLE)
    signs = torch.tensor([1, -1, 0, 1])
    once = ordered(weights, signs)
    torch.testing.assert_close(ordered(once, signs), once)
    torch.testing.assert_close(once[2], weights[2])
    torch.testing.assert_close(once[:, 1:].mean(1), weights[:, 1:].mean(1))
    assert not once[[0, 1, 3], 0].any()
    steps = once[:, 1:].diff(dim=1)
    assert (steps[[0, 3]] >= 0).all() and (steps[1] <= 0).all()


@pytest.mark.parametrize("kind", LEARNERS)
def test_all_ways_to_the_outputs_agree(kind):
    network, x = make(kind), rising(torch.Generator().manual_seed(2), 50)[0].clamp(-3, 3)
    y = network(x)
    torch.testing.assert_close(frozen(network)(x), y)
    torch.testing.assert_close(network.from_features(network.features(x)), y)
    for member in range(2):
        torch.testing.assert_close(network.member(member)(x), y[:, member])
    reference = make(kind)
    for layer in reference.layers:
        layer.backend, layer.working_memory = "blocked", 1e-3
    torch.testing.assert_close(reference(x), y)
    torch.testing.assert_close(
        torch.autograd.grad(reference(x).square().sum(), [*reference.parameters()]),
        torch.autograd.grad(y.square().sum(), [*network.parameters()]),
    )


def test_a_finer_grid_is_the_same_function():
    network, x = make(), torch.rand(40, 3, dtype=DOUBLE) * 2 - 1
    finer = refine(network, 10)
    torch.testing.assert_close(finer(x), network(x))
    with pytest.raises(ValueError, match="generated coefficients stays"):
        refine(make("linear"), 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monotone": [1, 0]}, "each of the 3 inputs"),
        ({"monotone": SIGNS, "basis": "rbf"}, "basis='bspline'"),
        ({"monotone": SIGNS, "extrapolation": "base"}, "extrapolation='base'"),
        ({"monotone": SIGNS, "edges": [[(0, 0)]]}, "without monotone inputs"),
    ],
)
def test_what_cannot_be_kept_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        KAN([3, 1], **settings)


def test_gradients():
    source = MonotoneCoefficients(make().layers[0].source.inner, SIGNS)
    by_input, shared = source.tensors()
    weight = by_input[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: source.generate((w, source.signs), shared), weight)
