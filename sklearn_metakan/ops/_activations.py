"""Activations of a meta-learner's hidden layer, and their ways back without autograd."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Activation(NamedTuple):
    """``act``, once for autograd and once for memory that is reused.

    ``overwriting(a)`` is act(a), in place where the way back needs no a;
    ``backward(grad, a, act)`` overwrites grad by grad * act'(a).
    """

    plain: Callable[[Tensor], Tensor]
    overwriting: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], object]


_aten = torch.ops.aten
ACTIVATIONS = {
    "relu": Activation(
        torch.relu,
        torch.relu_,
        lambda grad, a, act: _aten.threshold_backward.grad_input(grad, act, 0, grad_input=grad),
    ),
    "silu": Activation(
        torch.nn.functional.silu,
        torch.nn.functional.silu,
        lambda grad, a, act: _aten.silu_backward.grad_input(grad, a, grad_input=grad),
    ),
    "tanh": Activation(
        torch.tanh,
        torch.tanh_,
        lambda grad, a, act: _aten.tanh_backward.grad_input(grad, act, grad_input=grad),
    ),
    "sin": Activation(torch.sin, torch.sin, lambda grad, a, act: grad.mul_(a.cos_())),
}
