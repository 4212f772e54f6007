"""Networks with their weights made once and for all."""

import torch
from torch import Tensor, nn

from sklearn_metakan.nn._coefficients import DirectCoefficients, MetaCoefficients
from sklearn_metakan.nn._layer import KANLayer
from sklearn_metakan.nn._network import KANNetwork

_BLOCK = 8.0  # MiB, unless the layer has a working memory of its own


def frozen(network: KANNetwork, linear: bool = True) -> nn.Module:
    """The network as it works after training: generated weights made once, no dropout.

    Layers whose weights are not generated, and what no weight depends on, are shared with
    ``network``, not copied. The weights are parameters of their own: what happens to
    ``network`` later does not change them.

    Parameters
    ----------
    network : KAN or ConvKAN
    linear : bool, default=True
        Whether also those of linear meta-learners, which are C / p times as many numbers as
        what they come from.

    Examples
    --------
    >>> import torch
    >>> from sklearn_metakan.nn import KAN, MetaLearner
    >>> network = KAN([4, 3, 1], meta_learners=MetaLearner(1, 16, 9))
    >>> x = torch.rand(5, 4)
    >>> bool(torch.allclose(frozen(network)(x), network(x), atol=1e-5))
    True
    """
    layers = network.kan_layers()
    return network.with_layers(
        [_frozen_layer(at) if _generates(at, linear) else at for at in layers]
    )


def n_frozen(network: KANNetwork, linear: bool = True) -> int:
    """How many weights ``frozen`` makes."""
    layers = (layer for layer in network.kan_layers() if _generates(layer, linear))
    return sum(layer.n_coefficients for layer in layers)


def _generates(layer: KANLayer, linear: bool) -> bool:
    source = layer.source
    return isinstance(source, MetaCoefficients) and (linear or not source.meta_learner.is_linear)


def _frozen_layer(layer: KANLayer) -> KANLayer:
    shape, n_out = layer.source.in_shape, layer.source.out_features
    with torch.device("meta"):  # no memory for what is replaced at once
        source = DirectCoefficients(shape, n_out, layer.basis.n_functions)
    source.weight = nn.Parameter(_weights(layer).unflatten(0, shape))
    return layer.with_source(source)


@torch.no_grad()
def _weights(layer: KANLayer) -> Tensor:
    """(in, C, out), a few inputs at a time: generating takes more memory than the result."""
    source = layer.source
    parameter = next(source.parameters())
    shape = (source.in_features, source.n_functions, source.out_features)
    weights = parameter.new_empty(shape)
    memory = _BLOCK if layer.working_memory is None else layer.working_memory
    step = max(1, int(memory * 2**20 / (parameter.element_size() * source.numbers_per_input)))
    for start in range(0, len(weights), step):
        stop = min(start + step, len(weights))
        weights[start:stop] = source.block(start, stop)
    return weights
