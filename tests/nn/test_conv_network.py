"""Networks for images: the paper's sizes, scaling, norms, augmentation, reproducibility."""

import pickle
from copy import deepcopy
from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from sklearn_metakan.nn import (
    ConvKAN,
    KANConv2d,
    MetaLearner,
    build_conv_network,
    frozen,
    n_frozen,
)

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
FOUR = {"hidden_channels": (32, 64, 128, 256), "strides": (1, 2, 2, 1)}
EIGHT = {
    "hidden_channels": (16, 32, 64, 128, 256, 256, 512, 512),
    "strides": (1, 2, 2, 1, 1, 2, 1, 1),
}
KAN = {"norm": "batch", "activation": "prelu", "dropout": 0.5}
FAST = {"basis": "rbf", "grid_size": 7, "norm": "instance", "norm_order": "before"}
KALN = {"basis": "legendre", "norm": "instance"}
KAGN = {"basis": "gram", "norm": "instance"}
KACN = {"basis": "chebyshev", "degree": 6, "norm": "instance"}
META = {"n_meta_learners": "auto", "meta_hidden_dim": 64}
CENTRES, BETAS = 8 * 4, 4 * 4  # of the paper's, in four layers: frozen, and learned


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def build(image_shape=(2, 6, 5), hidden_channels=(4, 3), n_outputs=3, **options):
    return build_conv_network(image_shape, hidden_channels, n_outputs, **options)


def draw(n=4, image_shape=(2, 6, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *image_shape, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    ("options", "mnist", "cifar"),
    [
        (KAN, 3_489_774, 3_494_958),
        (KAN | META, 391_607, 392_183),
        # The paper's FastKAN counts its frozen centres; here they are no parameters.
        (FAST, 3_489_292 - CENTRES, 3_494_480 - CENTRES),
        (FAST | META, 391_125 - CENTRES, 391_705 - CENTRES),
        (KALN, 1_940_330, 1_943_210),
        (KALN | META, 391_343, 391_919),
        # KAGN learns the recurrence's coefficients; here they are fixed
        # (docs/explanation/networks.md).
        (KAGN, 1_940_346 - BETAS, 1_943_226 - BETAS),
        (KACN, 2_715_050, 2_719_082),
        (KACN | META, 391_473, 392_049),
    ],
    ids=[
        "KAN",
        "MetaKAN",
        "FastKAN",
        "MetaFastKAN",
        "KALN",
        "MetaKALN",
        "KAGN",
        "KACN",
        "MetaKACN",
    ],
)
def test_the_papers_networks_of_four_layers(options, mnist, cifar):
    for image_shape, expected in ((MNIST, mnist), (CIFAR, cifar)):
        assert count(build(image_shape, n_outputs=10, init=None, **FOUR, **options)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (KAN, 40_696_610),
        (KAN | META, 4_530_283),
        (KAN | META | {"n_meta_learners": 3}, 4_531_709),
    ],
    ids=["KAN", "one meta-learner", "three"],
)
def test_the_papers_networks_of_eight_layers(options, expected):
    assert count(build(CIFAR, n_outputs=10, init=None, **EIGHT, **options)) == expected


def test_clusters_of_layers_share_a_meta_learner():
    network = build(CIFAR, init=None, **EIGHT, **META | {"n_meta_learners": 3})
    learners = [layer.source.meta_learner for layer in network.kan_layers()]
    labels = [learners.index(learner) for learner in learners]
    assert labels == [0, 0, 0, 0, 4, 4, 6, 6]
    assert [layer.stride[0] for layer in network.kan_layers()] == list(EIGHT["strides"])
    assert [size[0] for size in network.sizes] == [32, 32, 16, 8, 8, 8, 4, 4, 4]
    each = build(CIFAR, init=None, **FOUR, **META | {"n_meta_learners": "layer"})
    assert len({layer.source.meta_learner for layer in each.kan_layers()}) == 4


def test_is_what_its_layers_say():
    """Scale, convolve, normalise, bend, average, weigh."""
    network = build(
        norm="layer", activation="prelu", pixel_centre=[0.5, -1.0], pixel_scale=[2.0, 3.0]
    )
    x = draw()
    h = (x - torch.tensor([0.5, -1.0]).view(2, 1, 1)) * torch.tensor([2.0, 3.0]).view(2, 1, 1)
    for layer in network.kan_layers():
        h = nn.functional.group_norm(layer(h), 1)
        h = torch.where(h > 0, h, 0.25 * h)
    expected = h.mean((2, 3)) @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(x), expected)


def test_norm_before_the_convolution():
    network = build(norm="instance", norm_order="before")
    x = draw()
    assert [layer.basis.domain[0].tolist() for layer in network.kan_layers()] == [[-3, 3]] * 2
    torch.testing.assert_close(network(7 * x + 2), network(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("activation", ["prelu", "silu", None])
@pytest.mark.parametrize("norm", ["batch", "instance", "layer", None])
def test_images_that_differ_have_outputs_that_differ(norm, activation):
    """The mean over the pixels of an instance norm alone is the same for every image."""
    network = build(norm=norm, activation=activation).train()
    outputs = network(draw(8))
    assert (outputs.std(0) > 1e-3).all()
    assert count(network) - count(build(norm=norm)) == 2 * (activation == "prelu")


def test_range_of_hidden_grids():
    network = build(hidden_range=1.5, knots=(-2.0, 2.0))
    assert [layer.basis.domain[0].tolist() for layer in network.kan_layers()] == [
        [-2, 2],
        [-1.5, 1.5],
    ]


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", None])
def test_rows_are_independent_in_evaluation(norm):
    network = build(norm=norm, strides=2).eval()
    x = draw()
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


def test_whole_numbers_are_scaled_like_floats():
    network = build(pixel_centre=127.5, pixel_scale=2 / 255)
    pixels = (draw().abs() * 255).to(torch.uint8)
    torch.testing.assert_close(network(pixels), network(pixels.float()))
    assert network(pixels).dtype == torch.float32


def test_starting_values_repeat_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    networks = [build(seed=seed, dropout=0.5, augment="crop", **META) for seed in (0, 0, 1)]
    for network in networks:
        network(draw())
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = [nn.utils.parameters_to_vector(at.parameters()) for at in networks]
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "state_dict"])
def test_copies_are_equal_and_apart(way):
    options = {"norm": "batch", "activation": "prelu", "pixel_scale": [2.0, 3.0], **META}
    network = build(dropout=0.5, augment="crop", **options).eval()
    copy = {
        "deepcopy": deepcopy,
        "pickle": lambda network: pickle.loads(pickle.dumps(network)),
        "state_dict": lambda _: build(init=None, **options).eval(),
    }[way](network)
    copy.load_state_dict(network.state_dict())
    before = network(draw())
    assert torch.equal(copy(draw()), before)
    assert count(copy) == count(network)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1)
    assert torch.equal(network(draw()), before)


@pytest.mark.parametrize("strides", [1, (2, 1)])
def test_sizes_of_the_widest_layer(strides):
    network = build((2, 6, 5), (4, 3), strides=strides)
    pairs, shapes = [], [(2, 6, 5)]
    x = draw()
    for layer in network.kan_layers():
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
        pairs.append(prod(shapes[-2]) + prod(shapes[-1]))
    assert network.widest_layer == max(pairs)
    assert network.widest_features == 9 * max(map(prod, shapes[:-1]))
    assert network.out_features == 3


def plain(image_shape, hidden_channels, n_outputs):
    """The same network with plain convolutions."""
    layers = []
    for n_in, n_out in pairwise((image_shape[0], *hidden_channels)):
        convolution = nn.Conv2d(n_in, n_out, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(n_out), nn.PReLU()]
    head = nn.Linear(hidden_channels[-1], n_outputs)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def kept(network, x):
    """Bytes for the backward pass beside the parameters, each storage once."""
    found, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x)
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return sum(size for place, size in found.items() if place not in own)


@pytest.mark.parametrize("options", [{}, META, META | {"meta_hidden_dim": 0, "prompt_dim": 2}])
def test_keeps_what_a_plain_convolutional_network_keeps(options):
    sizes = (3, 12, 12), (8, 16, 16), 5
    x = draw(16, sizes[0])
    network = build(*sizes, norm="batch", activation="prelu", backend="blocked", **options)
    assert kept(network, x) <= 1.03 * kept(plain(*sizes), x)


@pytest.mark.parametrize("depth", [2, 8])
@pytest.mark.parametrize("options", [{}, META, META | {"n_meta_learners": "layer"}])
def test_signals_start_of_order_one_at_every_depth(depth, options):
    network = build((3, 8, 8), [24] * depth, **options).eval()
    h = draw(16, (3, 8, 8))
    for layer in network.kan_layers():
        h = layer(h)
        assert 0.1 < h.std() < 3


def test_frozen_network_gives_the_same_without_meta_learners():
    options = {"norm": "batch", "dropout": 0.5, "augment": "flip", "activation": "prelu"}
    network = build(**options, **META)
    network.train()
    network(draw(seed=1))
    network.eval()
    made = frozen(network)
    torch.testing.assert_close(made(draw()), network(draw()))
    assert not any(isinstance(module, MetaLearner) for module in made.modules())
    assert n_frozen(network) == 9 * 9 * (2 * 4 + 4 * 3)


def test_a_network_learns_under_bf16():
    network = build((1, 8, 8), (6,), 2, norm="layer", **META)
    x, target = draw(32, (1, 8, 8)), torch.arange(32) % 2
    x[target == 1] *= 0.3  # of low contrast
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            loss = nn.functional.cross_entropy(network(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"hidden_channels": ()}, "hidden_channels"),
        ({"image_shape": (28, 28)}, "image_shape"),
        ({"strides": (1, 2, 3)}, "strides"),
        ({"norm": "group"}, "norm"),
        ({"norm_order": "around"}, "norm_order"),
        ({"activation": "relu"}, "activation"),
        ({"image_shape": (1, 1, 2), "norm": "instance", "strides": 2}, "1 x 1"),
        ({"augment": "rotate"}, "augment"),
        ({"edge_scale": True}, "edge_scale"),
    ],
)
def test_wrong_settings(options, word):
    settings = {"image_shape": (2, 6, 5), "hidden_channels": (4, 3), "n_outputs": 2} | options
    with pytest.raises(ValueError, match=word):
        ConvKAN(**settings)


@pytest.mark.parametrize("norm_order", ["after", "before"])
def test_batch_norm_of_a_single_number(norm_order):
    network = build((2, 4, 4), (3, 3), strides=(4, 1), norm="batch", norm_order=norm_order)
    network.train()
    network(draw(2, (2, 4, 4)))
    with pytest.raises(ValueError, match=r"norm='batch'.*one image.*1 x 1.*batch_size.*'layer'"):
        network(draw(1, (2, 4, 4)))
    network.eval()
    network(draw(1, (2, 4, 4)))


def test_strides_of_numpy():
    assert build((2, 8, 8), strides=np.int64(2)).sizes == [(8, 8), (4, 4), (2, 2)]


def test_augment_happens_in_training_alone():
    network = build(augment="flip_crop", image_shape=(2, 8, 8))
    x = draw(image_shape=(2, 8, 8))
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_layers_are_convolutions_with_half_padding():
    network = build(kernel_size=5)
    assert all(isinstance(layer, KANConv2d) for layer in network.kan_layers())
    assert network.sizes == [(6, 5)] * 3
