"""Derivatives by nested autograd: the fallback for networks that cannot be pushed through."""

from collections.abc import Callable

import torch
from torch import Tensor

from sklearn_metakan.pde._channels import Channels, Index


def nested_derivatives(
    u: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor, plan: Channels
) -> tuple[Tensor, Tensor]:
    """Value (n, k) and channels (n, K, k) of u, each by as many backward passes as its order.

    Parameters
    ----------
    u : callable, (n, d) -> (n, k)
    x : Tensor of shape (n, d)
    directions : Tensor of shape (n, K_1, d)
        Of the first-order channels, in their order.
    """
    x = x.detach().requires_grad_()
    place = {index[0]: i for i, index in enumerate(plan.indices[: plan.n_first])}

    def gradient(value: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros_like(x)
        return torch.autograd.grad(value.sum(), x, create_graph=True, materialize_grads=True)[0]

    def along(gradients: Tensor, k: int) -> Tensor:
        return (gradients * directions[:, place[k]]).sum(1)

    with torch.enable_grad():
        value = u(x)
        outputs = []
        for column in value.unbind(1):
            known: dict[Index, Tensor] = {(): column}
            gradients: dict[Index, Tensor] = {}
            for index in plan.indices:
                lower = index[:-1]
                if lower not in gradients:
                    gradients[lower] = gradient(known[lower])
                known[index] = along(gradients[lower], index[-1])
            sums = []
            for each in plan.sums:
                seconds = [along(gradient(known[(k,)]), k) for k in each.directions]
                sums.append(each.weight * torch.stack(seconds).sum(0))
            parts = [known[index] for index in plan.indices]
            outputs.append(torch.stack(parts[: plan.n_first] + sums + parts[plan.n_first :], 1))
        return value, torch.stack(outputs, 2)
