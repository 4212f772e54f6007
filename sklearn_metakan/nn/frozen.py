"""Networks with their weights made once and for all."""

from copy import copy

import torch
from torch import nn

from sklearn_metakan.nn.layers import KANLayer
from sklearn_metakan.nn.monotone import MonotoneCoefficients
from sklearn_metakan.nn.network import KANNetwork
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients

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

    Returns
    -------
    Module, from and to what the network takes and gives: ConvKAN, or layers in a Sequential

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
    return network.with_layers([_frozen(at) if _generates(at, linear) else at for at in layers])


def n_frozen(network: KANNetwork, linear: bool = True) -> int:
    """How many weights ``frozen`` makes.

    Parameters
    ----------
    network : KANNetwork
    linear : bool, default=True
        Whether layers of linear meta-learners are frozen too.

    Returns
    -------
    int
    """
    sources = [layer.source for layer in network.kan_layers() if _generates(layer, linear)]
    return sum(each.in_features * each.n_functions * each.out_features for each in sources)


def _generates(layer: KANLayer, linear: bool) -> bool:
    source = getattr(layer.source, "listed", layer.source)
    if isinstance(source, MonotoneCoefficients):
        return True
    return isinstance(source, MetaCoefficients) and (linear or not source.meta_learner.is_linear)


@torch.no_grad()
def _frozen(layer: KANLayer) -> KANLayer:
    """The same layer, basis and bias shared, with its weights (in, C, out) as parameters.

    They are made for a few inputs at a time: generating takes more memory than the result.
    """
    source, parameter = layer.source, next(layer.source.parameters())
    weights = parameter.new_empty(source.in_features, source.n_functions, source.out_features)
    memory = _BLOCK if layer.working_memory is None else layer.working_memory
    step = max(1, int(memory * 2**20 / (parameter.element_size() * source.numbers_per_input)))
    for start in range(0, len(weights), step):
        stop = min(start + step, len(weights))
        weights[start:stop] = source.block(start, stop)
    with torch.device("meta"):  # no memory for what is replaced at once
        direct = DirectCoefficients(source.in_shape, source.out_features, source.n_functions)
    direct.weight = nn.Parameter(weights.unflatten(0, source.in_shape))
    layer = copy(layer)
    layer._modules = layer._modules | {"source": direct}
    pairs = getattr(layer, "pairs", None)
    if pairs is not None:
        layer._modules["pairs"] = pairs.only(range(len(pairs.inputs)))
    return layer
