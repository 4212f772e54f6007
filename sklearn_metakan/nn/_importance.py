"""How much each input matters to a network's outputs."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def feature_importances(network: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """Total Sobol indices, normalised to sum to one.

    ``T_i = E[(f(x) - f(x with x_i exchanged))^2] / 2``, the spread of the outputs that
    vanishes if x_i is known, interactions included; Jansen's estimator, summed over
    outputs.

    Parameters
    ----------
    network : Module, (n, in_features) -> (n, out_features)
    x, other : Tensor of shape (n, in_features)
        Two independent samples; ``other`` gives the exchanged values.

    Returns
    -------
    Tensor of shape (in_features,), non-negative; all zero for a constant network

    Source: Jansen, "Analysis of variance designs for model output" (1999).
    """
    was_training = network.training
    network.eval()
    outputs = network(x)
    total = []
    for i in range(x.shape[1]):
        exchanged = x.clone()
        exchanged[:, i] = other[:, i]
        total.append((outputs - network(exchanged)).pow(2).mean(0).sum() / 2)
    network.train(was_training)
    importances = torch.stack(total)
    return importances / importances.sum().clamp_min(torch.finfo(importances.dtype).tiny)
