"""Coefficient sources give what their formulas say, from as many numbers as they say."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from sklearn_metakan.nn import DirectCoefficients, MetaCoefficients, MetaLearner

IN, OUT, HIDDEN, N_FUNCTIONS = 4, 3, 5, 6
ACTIVATIONS = {
    "relu": lambda t: t.clamp(min=0),
    "silu": lambda t: t / (1 + (-t).exp()),
    "tanh": lambda t: 2 / (1 + (-2 * t).exp()) - 1,
    "sin": torch.sin,
}
each_prompt_dim = pytest.mark.parametrize("prompt_dim", [1, 2, 3])


def make(prompt_dim, hidden_dim, activation="relu", edge_scale=False, n_in=IN):
    """Random numbers in every parameter."""
    learner = MetaLearner(prompt_dim, hidden_dim, N_FUNCTIONS, activation, dtype=torch.float64)
    source = MetaCoefficients(n_in, OUT, learner, edge_scale, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for parameter in source.parameters():
        nn.init.normal_(parameter, generator=generator)
    return source


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@each_prompt_dim
@pytest.mark.parametrize("edge_scale", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_generated_edge_by_edge(prompt_dim, edge_scale, activation):
    source = make(prompt_dim, HIDDEN, activation, edge_scale)
    learner, block = source.meta_learner, source.block(0, IN)
    assert block.shape == (IN, N_FUNCTIONS, OUT)
    for i in range(IN):
        for o in range(OUT):
            z = source.prompts[i, :, o]
            hidden = ACTIVATIONS[activation](learner.hidden_weight @ z + learner.hidden_bias[:, 0])
            expected = source.gain * (learner.output_weight @ hidden + learner.output_bias[:, 0])
            if edge_scale:
                expected = expected * source.edge_scale[i, o]
            torch.testing.assert_close(block[i, :, o], expected)


@each_prompt_dim
@torch.no_grad()
def test_linear_is_a_dictionary(prompt_dim):
    source = make(prompt_dim, 0)
    block = source.block(0, IN)
    for i in range(IN):
        for o in range(OUT):
            expected = source.gain * source.meta_learner.output_weight @ source.prompts[i, :, o]
            torch.testing.assert_close(block[i, :, o], expected)
    assert torch.linalg.matrix_rank(block.transpose(1, 2).flatten(0, 1)) == prompt_dim


each_kind = pytest.mark.parametrize(
    "source",
    [
        make(2, HIDDEN),
        make(1, HIDDEN, "sin", edge_scale=True),
        make(2, 0),
        DirectCoefficients(IN, OUT, N_FUNCTIONS),
    ],
    ids=["meta", "scaled", "linear", "direct"],
)


@each_kind
def test_blocks_are_slices(source):
    whole = source.block(0, IN)
    for start, stop in [(0, 1), (1, 4), (2, 2)]:
        torch.testing.assert_close(source.block(start, stop), whole[start:stop])


def test_direct_block_is_the_parameter():
    source = DirectCoefficients(IN, OUT, N_FUNCTIONS)
    nn.init.normal_(source.weight)
    assert source.block(0, IN).data_ptr() == source.weight.data_ptr()
    torch.testing.assert_close(source.block(1, 3), source.weight[1:3])


@each_prompt_dim
@pytest.mark.parametrize("hidden_dim", [1, 16])
def test_number_of_parameters(prompt_dim, hidden_dim):
    edges = IN * OUT
    learner = (prompt_dim + 1) * hidden_dim + (hidden_dim + 1) * N_FUNCTIONS
    assert count(make(prompt_dim, hidden_dim)) == edges * prompt_dim + learner
    scaled = make(prompt_dim, hidden_dim, edge_scale=True)
    assert count(scaled) == edges * (prompt_dim + 1) + learner
    assert count(make(prompt_dim, 0)) == edges * prompt_dim + prompt_dim * N_FUNCTIONS
    assert count(DirectCoefficients(IN, OUT, N_FUNCTIONS)) == edges * N_FUNCTIONS


@each_kind
def test_tensors_are_all_parameters_once(source):
    """Those with an axis of inputs, and the meta-learner's."""
    by_input, shared = source.tensors()
    assert {*map(id, (*by_input, *shared))} == {*map(id, source.parameters())}
    assert len(by_input) + len(shared) == len([*source.parameters()])
    assert all(len(tensor) == IN for tensor in by_input)
    learner = getattr(source, "meta_learner", None)
    assert [*map(id, shared)] == ([] if learner is None else [*map(id, learner.parameters())])


@each_kind
def test_generates_from_the_tensors_given(source):
    """Not from its own parameters: what lets a backend pass blocks and copies."""
    source = deepcopy(source)
    by_input, shared = source.tensors()
    a, b = [torch.randn_like(t) for t in by_input], [torch.randn_like(t) for t in shared]
    with torch.no_grad():
        expected, dictionary = source.generate(a, b), source.dictionary(b)
        for parameter, other in zip((*by_input, *shared), (*a, *b), strict=True):
            parameter.copy_(other)
        torch.testing.assert_close(source.generate(by_input, shared), expected)
        if dictionary is not None:
            torch.testing.assert_close(source.dictionary(shared), dictionary)


def test_only_a_linear_source_has_a_dictionary():
    source = make(2, 0)
    assert source.dictionary(source.tensors()[1]).shape == (N_FUNCTIONS, 2)
    for source in (DirectCoefficients(IN, OUT, N_FUNCTIONS), make(2, HIDDEN)):
        by_input, shared = source.tensors()
        assert source.dictionary(shared) is None
        assert source.generate(by_input, shared).shape == (IN, N_FUNCTIONS, OUT)


def test_meta_learner_takes_prompts_of_any_leading_shape():
    """As convolutions have them: (in, kh, kw, p, out)."""
    learner = make(2, HIDDEN).meta_learner
    prompts = torch.randn(2, 3, 2, 2, OUT, dtype=torch.float64)
    coefficients = learner(prompts)
    assert coefficients.shape == (2, 3, 2, N_FUNCTIONS, OUT)
    torch.testing.assert_close(coefficients[1, 2, 0], learner(prompts[1, 2, 0]))
    torch.testing.assert_close(learner(prompts[1, 2, 0])[:, 1:2], learner(prompts[1, 2, 0, :, 1:2]))


def test_edge_scale_contradicts_a_linear_meta_learner():
    with pytest.raises(ValueError, match=r"edge_scale=True.*edge_scale=False or hidden_dim > 0"):
        make(2, 0, edge_scale=True)


@pytest.mark.parametrize("argument", ["prompt_dim", "hidden_dim", "n_functions"])
def test_sizes_out_of_range_raise(argument):
    sizes = {"prompt_dim": 1, "hidden_dim": 4, "n_functions": 6} | {argument: -7}
    with pytest.raises(ValueError, match=f"{argument}.*at least.*-7"):
        MetaLearner(**sizes)


def test_unknown_activation_raises():
    with pytest.raises(ValueError, match=r"activation must be one of .*'tanh'.*got 'gelu'"):
        MetaLearner(1, 4, 6, "gelu")
