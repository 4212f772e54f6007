"""Layers without some edges compute what dense ones do with zeros, and are fewer numbers."""

import copy
import pickle

import pytest
import torch

from sklearn_metakan.nn import (
    KAN,
    KANLinear,
    MetaLearner,
    SparseCoefficients,
    edge_effects,
    frozen,
    refine,
    without_edges,
)

EDGES = [(0, 0), (0, 2), (2, 1), (3, 0)]
LEARNERS = {
    "direct": None,
    "linear": lambda: MetaLearner(2, 0, 9, dtype=torch.float64),
    "hidden": lambda: MetaLearner(2, 8, 9, "sin", dtype=torch.float64),
}
each_source = pytest.mark.parametrize("kind", LEARNERS)


def network(kind, sizes=(4, 3, 2), **settings):
    learner = LEARNERS[kind] and LEARNERS[kind]()
    generator = torch.Generator().manual_seed(0)
    given = {"generator": generator, "dtype": torch.float64, "edge_scale": kind == "hidden"}
    return KAN(list(sizes), meta_learners=learner, **given | settings)


def rows(n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(n, 4, dtype=torch.float64, generator=generator) - 1


@each_source
@pytest.mark.parametrize("backend", ["reference", "kept", "blocked"])
def test_missing_edges_are_zero_and_the_others_as_they_were(kind, backend):
    dense = network(kind).layers[0]
    sparse = copy.deepcopy(dense)
    sparse.source, sparse.backend = SparseCoefficients(dense.source, EDGES), backend
    t = rows()
    expected = torch.zeros(50, 4, 3, dtype=torch.float64)
    for i, o in EDGES:
        expected[:, i, o] = dense.edge_functions(t)[:, i, o]
    torch.testing.assert_close(sparse.edge_functions(t), expected)
    torch.testing.assert_close(sparse(t), expected.sum(1))
    restored = copy.deepcopy(dense)
    restored.source = sparse.source.dense()
    torch.testing.assert_close(restored.edge_functions(t)[:, 3, 0], expected[:, 3, 0])


@each_source
@pytest.mark.parametrize("backend", ["kept", "blocked"])
def test_gradients_are_those_of_the_reference(kind, backend):
    grads = []
    for way in ("reference", backend):
        layer = copy.deepcopy(network(kind).layers[0])
        layer.source, layer.backend = SparseCoefficients(layer.source, EDGES), way
        x = rows().requires_grad_()
        (layer(x) ** 2).sum().backward()
        grads.append([x.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected)


@each_source
def test_numbers_are_those_of_the_edges(kind):
    source = network(kind).layers[0].source
    sparse = SparseCoefficients(source, EDGES)
    own = {name: p.numel() for name, p in sparse.named_parameters() if "meta_learner" not in name}
    per_edge = {"direct": 9, "linear": 2, "hidden": 3}[kind]
    assert sum(own.values()) == per_edge * len(EDGES)


@each_source
def test_what_is_taken_out_is_replaced_by_its_mean(kind):
    whole, x = network(kind, (4, 5, 2)), rows(200)
    effects = edge_effects(whole, x)
    assert [tuple(each.shape) for each in effects] == [(4, 5), (5, 2)]
    kept = [torch.ones(4, 5, dtype=torch.bool), torch.ones(5, 2, dtype=torch.bool)]
    same, _ = without_edges(whole, kept, x)
    torch.testing.assert_close(same(x), whole(x))
    kept[0][1, 3] = False
    fewer, edges = without_edges(whole, kept, x)
    spread = whole(x).var(0, correction=0).sum()
    change = (fewer(x) - whole(x)).square().mean(0).sum() / spread
    torch.testing.assert_close(change, effects[0][1, 3])
    assert len(edges[0]) == 19 and (1, 3) not in edges[0]


def test_the_effect_of_the_last_layers_edges_is_their_variance():
    layer = network("direct", (4, 2))
    x = rows(300)
    values = layer.layers[0].edge_functions(x)
    share = values.var(0, correction=0) / layer(x).var(0, correction=0).sum()
    torch.testing.assert_close(edge_effects(layer, x)[0], share)


@each_source
def test_units_that_lead_nowhere_go(kind):
    whole, x = network(kind, (4, 5, 3, 1)), rows()
    kept = [torch.ones(side, dtype=torch.bool) for side in ((4, 5), (5, 3), (3, 1))]
    kept[0][:, 1] = False  # nothing reaches unit 1
    kept[2][2] = False  # nothing takes unit 2 of the second layer up
    fewer, edges = without_edges(whole, kept, x)
    assert [layer.in_features for layer in fewer.layers] == [4, 4, 2]
    sizes = [4, 4, 2, 1]
    made = network(kind, sizes, edges=edges, bias=True, init=None)
    made.load_state_dict(fewer.state_dict())
    torch.testing.assert_close(made(x), fewer(x))
    torch.testing.assert_close(frozen(fewer)(x), fewer(x))
    torch.testing.assert_close(pickle.loads(pickle.dumps(fewer))(x), fewer(x))


@pytest.mark.parametrize("kind", ["direct", "hidden"])
def test_a_network_without_any_edge_is_a_constant(kind):
    x = rows()
    none = [torch.zeros(side, dtype=torch.bool) for side in ((4, 3), (3, 2))]
    constant, edges = without_edges(network(kind), none, x)
    assert edges == [[], []]
    assert constant(x).isfinite().all() and bool((constant(x) == constant(x)[0]).all())
    (constant(x) ** 2).sum().backward()


@each_source
def test_finer_grids_keep_the_function(kind):
    x = rows()
    whole = network(kind, edges=[EDGES, [(0, 0), (1, 1)]])
    torch.testing.assert_close(refine(whole, 10)(x), whole(x), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("edges", [[(4, 0)], [(0, 3)], [(0, 0), (0, 0)], [(-1, 0)]])
def test_edges_that_there_are_not(edges):
    with pytest.raises(ValueError, match="edges must be different pairs"):
        SparseCoefficients(KANLinear(4, 3).source, edges)
    with pytest.raises(ValueError, match="one list for each of the 2 layers"):
        KAN([4, 3, 1], edges=[[(0, 0)]])
    with pytest.raises(ValueError, match="one member"):
        KAN([4, 3, 1], n_members=2, edges=[[(0, 0)], [(0, 0)]])
