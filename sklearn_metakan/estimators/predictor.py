"""A fitted estimator as a torch module."""

from __future__ import annotations  # help() shows types as they are written here

from copy import deepcopy

from torch import Tensor, nn

from sklearn_metakan.nn import KANNetwork, frozen


class Predictor(nn.Module):
    """What ``to_torch`` returns: ``target(network(inputs(x)))``, in x's dtype.

    Shape
    -----
    What ``fit`` takes -> what ``predict`` or ``predict_proba`` returns. For x of whole
    numbers, the result has the network's dtype.
    """

    def __init__(self, inputs: nn.Module, network: KANNetwork, target: nn.Module) -> None:
        super().__init__()
        parameter = next(network.parameters())
        self.inputs = deepcopy(inputs).to(parameter.device)
        self.network = frozen(deepcopy(network))
        self.target = deepcopy(target).to(parameter.device)

    def forward(self, x: Tensor) -> Tensor:
        inner = next(self.network.parameters()).dtype
        outer = x.dtype if x.is_floating_point() else inner
        return self.target(self.network(self.inputs(x).to(inner)).to(outer))
