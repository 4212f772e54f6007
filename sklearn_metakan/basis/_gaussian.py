"""The Gaussian and its derivatives, which are Hermite polynomials times itself."""

import torch
from torch import Tensor


def gaussian(z: Tensor, first: int, last: int) -> list[Tensor]:
    """Derivatives of orders first to last of ``g(z) = exp(-z^2 / 2)``.

    ``g^(k) = (-1)^k He_k(z) g(z)``, by ``g^(k+1) = -z g^(k) - k g^(k-1)``.

    Examples
    --------
    >>> import torch
    >>> [float(g) for g in gaussian(torch.tensor(0.0), 0, 4)]
    [1.0, -0.0, -1.0, 0.0, 3.0]
    """
    derivatives = [torch.exp((z * z).mul_(-0.5))]
    for k in range(last):
        following = z * derivatives[k]
        if k:
            following.add_(derivatives[k - 1], alpha=k)
        derivatives.append(following.neg_())
    return derivatives[first:]
