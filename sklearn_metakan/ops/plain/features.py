"""Features of a block and the ways back, in plain PyTorch.

With an optional dictionary D (C, p), the features of a block are F D; K is b C, or b p.
"""

from torch import Tensor

from sklearn_metakan.basis import Basis


def combine_features(features: Tensor, dictionary: Tensor | None) -> Tensor:
    """``F_ric D_cp``, (r, b, C) -> (r, b, p), or F itself without a dictionary.

    One product for all rows and inputs; of few columns it would be slow (CPU).

    Parameters
    ----------
    features : Tensor of shape (r, b, C)
        F, of r rows and b inputs.
    dictionary : Tensor of shape (C, p) or None
        D.

    Returns
    -------
    Tensor of shape (r, b, p)
    """
    if dictionary is None:
        return features
    product = dictionary.T.contiguous() @ _rows_last(features)
    return product.unflatten(1, (features.shape[1], -1)).permute(2, 1, 0)


def flat(features: Tensor) -> Tensor:
    """(r, b, C) -> (r, b * C); what lies with rows last in memory stays so."""
    if features.stride(0) < features.stride(2):
        return features.permute(1, 2, 0).flatten(0, 1).T
    return features.flatten(1)


class Features:
    """Features of blocks (r, K), and their gradient's way into x and the dictionary.

    Attributes
    ----------
    learns : bool
        Whether the dictionary needs a gradient.
    functions : int
        Features of an input: C, or the functions of the dictionary.
    functions_first : bool
        Order of the K features: (C, b) instead of (b, C); that of the weights.
    rows_last : bool
        Whether the gradient of the features is wanted as (K, r) in memory, not as (r, K).
    numbers_per_value, numbers_forward : int
        Numbers held for one x on the way back, and while features alone are made.
    """

    rows_last = True

    def __init__(
        self, basis: Basis, derivative: int, dictionary: Tensor | None, functions_first: bool
    ) -> None:
        self.basis, self.derivative = basis, derivative
        self.dictionary, self.functions_first = dictionary, functions_first
        self.learns = dictionary is not None and dictionary.requires_grad
        self.functions = basis.n_functions if dictionary is None else dictionary.shape[1]
        self.numbers_per_value = self.numbers_forward = basis.numbers_per_value
        self._dictionary = None if dictionary is None else dictionary.detach().contiguous()
        self._dictionary_grad: Tensor | None = None

    def values(self, x: Tensor, start: int) -> Tensor:
        """Features of x (r, b), whose first column is the input ``start``: (r, K)."""
        return self._combined(self.basis.values(x, start, self.derivative))

    def backward(
        self, x: Tensor, start: int, grad: Tensor | None, x_grad: Tensor | None, wants_values: bool
    ) -> Tensor | None:
        """Gradient of x, from that of the features (r, K), into ``x_grad``, if there is one.

        Returns the features, if they are wanted: both share work.
        """
        features: Tensor | None = None
        by_input = None if grad is None else self._by_input(grad, x.shape[1])
        if x_grad is None or by_input is None:
            features = self.basis.values(x, start, self.derivative)
        else:
            spread = None if self._dictionary is None else self._dictionary.T
            call = (combine_features(by_input, spread).to(x.dtype), x, start)
            if wants_values or self.learns:
                features, found = self.basis.values_and_contract(*call, self.derivative)
            else:
                found = self.basis.contract(*call, self.derivative + 1)
            x_grad.copy_(found)
        if self.learns and by_input is not None and features is not None:
            gradient = (_rows_last(by_input) @ _rows_last(features).T).T
            # Inside autocast a product has another dtype.
            gradient = gradient.to(x.dtype)
            so_far = self._dictionary_grad
            self._dictionary_grad = gradient if so_far is None else so_far.add_(gradient)
        return self._combined(features) if features is not None and wants_values else None

    def finish(self) -> None:
        """Pass the dictionary's gradient on, once all blocks are done."""
        if self._dictionary_grad is not None and self.dictionary is not None:
            self.dictionary.backward(self._dictionary_grad)

    def _combined(self, features: Tensor) -> Tensor:
        features = combine_features(features, self._dictionary)
        return flat(features.transpose(1, 2) if self.functions_first else features)

    def _by_input(self, grad: Tensor, inputs: int) -> Tensor:
        """(r, K) -> (r, b, C or p)."""
        if self.functions_first:
            return grad.unflatten(1, (-1, inputs)).transpose(1, 2)
        return grad.unflatten(1, (inputs, -1))


def _rows_last(features: Tensor) -> Tensor:
    """(r, b, C) -> (C, b * r): splines and their gradients lie like that in memory."""
    return features.permute(2, 1, 0).flatten(1)
