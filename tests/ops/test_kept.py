"""Small layers, whose features are kept: the same sums and gradients as by PyTorch's operations."""

import pytest
import torch

from sklearn_metakan.basis import BSplineBasis, make_basis
from sklearn_metakan.nn import DirectCoefficients, MetaCoefficients, MetaLearner
from sklearn_metakan.ops import edge_sum

IN, OUT = 6, 4
OWN = torch.linspace(-1, 1, 6).repeat(IN, 1) + 0.1 * torch.arange(IN)[:, None]
BASES = {
    "splines": {},
    **{f"splines, {how}": {"extrapolation": how} for how in ("base", "constant")},
    "splines, own knots": {"knots": OWN.numpy()},
    "splines, own ranges": {"knots": OWN[:, [0, -1]].numpy()},
    "splines, degree 1": {"degree": 1},
    **{name: {"name": name} for name in ("rbf", "mexican_hat", "shannon", "chebyshev", "legendre")},
}


def make_source(kind, groups, functions):
    out = OUT // groups
    if kind == "direct":
        source = DirectCoefficients(IN, out, functions, dtype=torch.float64)
    elif kind == "linear":
        learner = MetaLearner(3, 0, functions, dtype=torch.float64)
        source = MetaCoefficients(IN, out, learner, dtype=torch.float64)
    else:
        learner = MetaLearner(2, 8, functions, "sin", dtype=torch.float64)
        source = MetaCoefficients(IN, out, learner, edge_scale=True, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for parameter in source.parameters():
        parameter.data.normal_(generator=generator)
    return source


def make(basis="splines", kind="direct", groups=1):
    options = {"name": "bspline", "grid_size": 5, "degree": 3} | BASES[basis]
    made = make_basis(options.pop("name"), IN, dtype=torch.float64, **options)
    return made, make_source(kind, groups, made.n_functions)


def draw(n=40):
    return 1.2 * torch.randn(n, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def results(backend, basis, source, groups, x):
    """y and the gradients of what needs one."""
    y = edge_sum(x, basis, source, backend=backend, groups=groups)
    wanted = [t for t in (x, *source.parameters()) if t.requires_grad]
    generator = torch.Generator().manual_seed(2)
    factor = torch.randn(y.shape, dtype=y.dtype, generator=generator)
    return [y, *torch.autograd.grad((factor * y).sum(), wanted)]


@pytest.mark.parametrize("of_x", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", ["direct", "linear", "hidden"])
@pytest.mark.parametrize("basis", BASES)
def test_kept_is_the_reference(basis, kind, groups, of_x):
    layer = make(basis, kind, groups)
    x = draw().requires_grad_(of_x)
    for rows in (x, x.mT.contiguous().mT):  # rows last in memory, as layers give them
        expected = results("reference", *layer, groups, rows)
        got = results("kept", *layer, groups, rows)
        assert got[0].shape == (40, OUT)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ["direct", "linear", "hidden"])
def test_groups_sum_over_their_own_inputs(kind):
    basis, source = make(kind=kind, groups=2)
    x, half = draw(), IN // 2
    y = edge_sum(x, basis, source, backend="kept", groups=2)
    moved = x.clone()
    moved[:, :half] += 0.3
    changed = (edge_sum(moved, basis, source, backend="kept", groups=2) != y).any(0)
    assert changed.tolist() == [True, True, False, False]


@pytest.mark.parametrize("kind", ["linear", "hidden"])
def test_what_does_not_learn_gets_no_gradient(kind):
    basis, source = make(kind=kind)
    frozen = next(iter(source.parameters())).requires_grad_(False)
    edge_sum(draw(), basis, source, backend="kept").sum().backward()
    assert frozen.grad is None
    rest = [p for p in source.parameters() if p is not frozen]
    assert all(parameter.grad is not None for parameter in rest)


@pytest.mark.parametrize("kind", ["direct", "linear"])
def test_a_graph_may_be_gone_through_twice(kind):
    basis, source = make(kind=kind)
    y = edge_sum(draw().requires_grad_(), basis, source, backend="kept").square().sum()
    wanted = [*source.parameters()]
    first = torch.autograd.grad(y, wanted, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(y, wanted), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("region", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_is_the_same(region):
    basis, source = make(kind="linear")
    expected = edge_sum(draw().requires_grad_(), basis, source, backend="kept").detach()
    with region():
        torch.testing.assert_close(edge_sum(draw(), basis, source, backend="kept"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    source = DirectCoefficients(IN, OUT, 9, dtype=dtype)
    source.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    basis = BSplineBasis(IN, dtype=torch.float32).to(dtype)
    x = draw().to(dtype)
    wide = DirectCoefficients(IN, OUT, 9)
    wide.weight.data = source.weight.data.float()
    exact = edge_sum(x.float(), BSplineBasis(IN, dtype=torch.float32), wide, backend="reference")
    for backend in ("kept", "reference"):
        got = edge_sum(x, basis, source, backend=backend)
        assert got.dtype == dtype
        error = (got.float() - exact).norm() / exact.norm()
        assert error < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", ["direct", "linear"])
def test_no_rows(kind):
    basis, source = make(kind=kind)
    y = edge_sum(draw(0).requires_grad_(), basis, source, backend="kept")
    assert y.shape == (0, OUT)
    y.sum().backward()
    assert all((p.grad == 0).all() for p in source.parameters())


def test_beyond_the_memory_it_is_made_block_by_block():
    """Features of a layer are held by the graph, unless they are more than the memory."""
    held = {}
    for memory in (None, 0.01):
        basis, source = make()
        x = draw(400).requires_grad_()
        with torch.profiler.profile(profile_memory=True) as profile:
            y = edge_sum(x, basis, source, working_memory=memory)
        events = profile.profiler.kineto_results.events()
        held[memory] = sum(event.nbytes() for event in events if event.name() == "[memory]")
        assert y.requires_grad
    features = 400 * IN * 9 * 8
    assert held[None] > features
    assert held[0.01] < features / 2
