"""What blocks may take if nobody says."""

import torch

from sklearn_metakan.nn import KAN, ConvKAN, MetaLearner
from sklearn_metakan.ops.memory import CPU_MEMORY, default_memory


def rooms(network, sizes, device):
    """Of every layer, for 64 rows of such sizes; the last is the output's."""
    for layer, size, after in zip(network.kan_layers(), sizes, sizes[1:], strict=False):
        x = torch.empty(64, *size, device=device)
        y = torch.empty(64, *after, device=device)
        yield default_memory(x, y.numel(), layer.source, layer.widest)


def test_narrow_layers_on_a_card_get_the_room_of_the_widest():
    network = KAN((512, 2048, 512, 64), meta_learners=MetaLearner(1, 8, 9))
    widest, *others = rooms(network, [(512,), (2048,), (512,), (64,)], "meta")
    assert others == [widest, widest]


def test_a_layer_of_fewer_edges_keeps_its_own_room():
    """Many inputs and few outputs: rows count more than edges."""
    source = next(KAN((10_000, 10)).kan_layers()).source
    x = torch.empty(4096, 10_000, device="meta")
    own = default_memory(x, 4096 * 10, source, None)
    assert default_memory(x, 4096 * 10, source, (400, 400)) == own


def test_of_images_too():
    options = {"strides": (1, 2, 2), "meta_learners": MetaLearner(1, 4, 9)}
    network = ConvKAN((3, 64, 64), (8, 64, 8), 10, **options)
    sizes = [(3, 64, 64), (8, 64, 64), (64, 32, 32), (8, 16, 16)]
    assert network.layers[0].widest == (8 * 64 * 64, 64 * 32 * 32)
    *_, last = found = [*rooms(network, sizes, "meta")]
    assert max(found) < 1.2 * min(found)  # the rest is the layer's own parameters
    for layer in network.layers:
        layer.widest = None
    *_, alone = rooms(network, sizes, "meta")
    assert alone < 0.75 * last


def test_a_cpu_takes_the_same_for_every_layer():
    network = KAN((4, 8, 2))
    assert [*rooms(network, [(4,), (8,), (2,)], "cpu")] == [CPU_MEMORY, CPU_MEMORY]


def test_no_rows():
    network = KAN((4, 8, 2))
    x = torch.empty(0, 4, device="meta")
    assert default_memory(x, 0, next(network.kan_layers()).source, None) > 0
