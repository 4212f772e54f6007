"""The trial function: network, scaling and ansatz, with its derivatives at given points."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.pde.derivatives.ansatz import Ansatz, apply_ansatz, push_ansatz
from sklearn_metakan.pde.derivatives.channels import Channels, picked
from sklearn_metakan.pde.derivatives.of_points import kept, push_affine, push_features
from sklearn_metakan.pde.derivatives.push import (
    modules_in_order,
    nested_derivatives,
    push,
    push_coordinates,
)
from sklearn_metakan.pde.physics.field import Evaluation, Field, Request

Derivatives = Literal["exact", "sdgd", "hutchinson"]


class TrialFunction(nn.Module):
    """``u(x) = g(x, b + a * network((f(x) - shift) / scale))``, g the ansatz, with derivatives.

    The features f are x itself unless others are given.

    Points are centred and scaled in float64, whatever the network computes in: coordinates far
    from zero, such as times in seconds, keep their digits if they are given in float64.

    Parameters
    ----------
    network : Module, (n, d) -> (n, k)
        Derivatives are pushed through KANs, and through sequences of KAN and linear layers
        and the usual activations; for any other module they come from nested autograd.
    input_shift, input_scale : Tensor of shape (d) or number, default=0 and 1
        Of the network's inputs. One of infinite scale has no effect: the network sees 0 there.
    output_shift, output_scale : Tensor of shape (k) or number, default=0 and 1
    ansatz : callable, optional
        ``g(x, net)``, torch, row by row; net and its value are (n,) if there is one output.
    affine : bool, default=False
        Whether the ansatz is ``g(x) + w(x) net``, each output by itself: derivatives of g and w
        are then taken once for points that stay, which is much quicker.
    features : callable, optional
        ``f(x)``, torch, row by row, (n, d) -> (n, m): what the network sees in place of x.
        Derivatives by x follow exactly.
    variables : sequence of str, optional
        Names of the coordinates; by default "x0", "x1", ..., and "t" for time.
    time : bool, default=False
        Whether the last coordinate is time: gradient, divergence and Laplacian are then in
        space alone.
    n_parameters : int, default=0
        So many of the last coordinates, but for time, are no space either.
    derivatives : {"exact", "sdgd", "hutchinson"}, default="exact"
        What ``laplacian`` is: all second derivatives; those of ``n_directions`` coordinates
        drawn for each point without replacement, times their share; or the mean over
        ``n_directions`` random signs v of ``v' H v``. All else is exact in every mode.
    n_directions : int, default=4
    nested : bool, default=False
        Nested autograd for every network.

    Shape
    -----
    (n, d) -> (n,) with one output, else (n, k).

    Raises
    ------
    ValueError
        For a mode or number that means nothing, a shift or scale of the output that is not
        finite, and a scale of 0; when called, if the ansatz returns another shape.

    Source: Li et al., "Forward Laplacian" (2023); Hu et al., "Tackling the curse of
    dimensionality with PINNs" (2024), SDGD, and "Hutchinson trace estimation" (2024).

    Examples
    --------
    >>> import torch
    >>> from sklearn_metakan.nn import KAN
    >>> u = TrialFunction(KAN([2, 8, 1]), ansatz=lambda x, net: x[:, 0] * net)
    >>> x = torch.rand(5, 2)
    >>> u(x).shape, u.field(x).grad().shape, u.field(x).laplacian().shape
    (torch.Size([5]), torch.Size([5, 2]), torch.Size([5]))
    """

    beside: nn.Module | None
    input_shift: Tensor
    input_scale: Tensor
    output_shift: Tensor
    output_scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        input_shift: Tensor | float = 0.0,
        input_scale: Tensor | float = 1.0,
        output_shift: Tensor | float = 0.0,
        output_scale: Tensor | float = 1.0,
        ansatz: Ansatz | None = None,
        affine: bool = False,
        features: Callable[[Tensor], Tensor] | None = None,
        variables: Sequence[str] | None = None,
        time: bool = False,
        n_parameters: int = 0,
        derivatives: Derivatives = "exact",
        n_directions: int = 4,
        nested: bool = False,
    ) -> None:
        super().__init__()
        if derivatives not in get_args(Derivatives):
            raise ValueError(
                f"derivatives must be one of {get_args(Derivatives)}, got {derivatives!r}."
            )
        if n_directions < 1:
            raise ValueError(f"n_directions must be at least 1, got {n_directions}.")
        self.network, self.ansatz, self.features, self.time = network, ansatz, features, time
        self.register_module("beside", None)  # a network whose outputs are added, not trained
        self.affine, self.n_parameters = affine, n_parameters
        self.variables = None if variables is None else tuple(variables)
        self.derivatives, self.n_directions, self.nested = derivatives, n_directions, nested
        parameter = next(network.parameters(), None)
        self._is_bare = parameter is None
        like = torch.zeros(()) if parameter is None else parameter
        for name, value, dtype in (
            ("input_shift", input_shift, torch.float64),
            ("input_scale", input_scale, torch.float64),
            ("output_shift", output_shift, like.dtype),
            ("output_scale", output_scale, like.dtype),
        ):
            stored = torch.as_tensor(value, dtype=dtype, device=like.device).detach().clone()
            fine = not stored.isnan().any() if name == "input_scale" else stored.isfinite().all()
            if not fine or (name.endswith("scale") and (stored == 0).any()):
                raise ValueError(f"{name} must be finite, and scales not zero, got {value}.")
            self.register_buffer(name, stored)

    def dtype_for(self, x: Tensor) -> torch.dtype:
        """The network's own; that of x if it has no parameters."""
        return x.dtype if self._is_bare else self.output_shift.dtype

    def inputs(self, x: Tensor) -> Tensor:
        """What the network sees at x, (n, m)."""
        seen = x.double() if self.features is None else self.features(x.double())
        return ((seen - self.input_shift) / self.input_scale).to(self.dtype_for(x))

    def columns(self, x: Tensor) -> Tensor:
        """u at x, always (n, k)."""
        inputs = self.inputs(x)
        found = self.network(inputs)
        if self.beside is not None:
            found = found + self.beside(inputs)
        raw = self.output_shift + self.output_scale * found
        return raw if self.ansatz is None else apply_ansatz(self.ansatz, x, raw)

    def forward(self, x: Tensor) -> Tensor:
        y = self.columns(x)
        return y[:, 0] if y.shape[1] == 1 else y

    def field(
        self,
        x: Tensor,
        normal: Tensor | None = None,
        *,
        request: Request = frozenset(),
        generator: torch.Generator | None = None,
    ) -> Field:
        """What a residual is given: u and its derivatives at the points x.

        Parameters
        ----------
        x : Tensor of shape (n, d)
        normal : Tensor of shape (n, d), optional
            Outward unit normals.
        request : frozenset, default: empty
            What will be asked for, from ``Field.request`` of an earlier call: all of it is
            then computed in one pass. Anything else is computed when asked for.
        generator : torch.Generator on x's device, optional
            For random directions.

        Raises
        ------
        ValueError
            If shapes do not agree, or variables do not name every column.
        """
        return self.fields(x, normal, request=request, generator=generator, n_sets=1)[0]

    def fields(
        self,
        x: Tensor,
        normal: Tensor | None = None,
        *,
        request: Request = frozenset(),
        generator: torch.Generator | None = None,
        n_sets: int = 2,
    ) -> list[Field]:
        """Fields that differ in their random directions alone, and share everything else.

        For an unbiased squared loss: the product of the residuals of two sets has the square
        of the exact residual as its mean. With ``derivatives="exact"`` all sets are equal.
        ``n_sets`` is their number; other parameters (x, normal, request, generator) and errors are
        those of ``field``.
        """
        if x.ndim != 2:
            raise ValueError(f"x must have the shape (n, d), got {tuple(x.shape)}.")
        if normal is not None and normal.shape != x.shape:
            raise ValueError(
                f"normal must have the shape of x, {tuple(x.shape)}, got {tuple(normal.shape)}."
            )
        names = self.variables or default_names(x.shape[1], self.time)
        if len(names) != x.shape[1]:
            raise ValueError(
                f"variables must name each of the {x.shape[1]} columns of x, got {names}."
            )
        points = x.detach() if x.requires_grad else x  # not a new tensor: see of_points
        values = Evaluation(self, points, normal, names, request, generator, n_sets)
        return [Field(values, number) for number in range(n_sets)]

    def push(self, x: Tensor, directions: Tensor | None, plan: Channels) -> tuple[Tensor, Tensor]:
        """Value (n, k) and channels (n, K, k) of u.

        ``directions`` (n, K_1, d) are those of the plan's first derivatives; None: direction
        k is coordinate k.
        """
        modules = None if self.nested else modules_in_order(self.network)
        straight = modules is not None and self.ansatz is None and self.features is None
        if directions is None and not straight:
            axes = [index[0] for index in plan.of_order(1)]
            lines = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            lines = picked(lines[None], axes).expand(len(x), -1, -1)
        elif directions is not None:
            lines = directions.to(x.dtype)
        if modules is None:
            return nested_derivatives(self.columns, x, lines, plan)
        inputs = self.inputs(x)
        slope = (1 / self.input_scale).to(inputs.dtype).expand(inputs.shape[1])
        if self.features is not None:
            higher = slope * self._slopes(x, lines, directions, plan)
            through = partial(push, x=inputs, values=higher, plan=plan)
        elif directions is None:
            through = partial(push_coordinates, x=inputs, scale=slope, plan=plan)
        else:
            n_higher = plan.n_channels - plan.n_first
            higher = inputs.new_zeros(1, 1, 1).expand(len(x), n_higher, x.shape[1])
            higher = torch.cat([directions * slope, higher], 1)
            through = partial(push, x=inputs, values=higher, plan=plan)
        y, values = through(modules)
        if self.beside is not None:
            others = through(modules_in_order(self.beside) or [])
            y, values = y + others[0], values + others[1]
        y, values = self.output_shift + self.output_scale * y, self.output_scale * values
        if self.ansatz is None:
            return y, values
        if self.affine and directions is None:
            return push_affine(self.ansatz, x, lines, y, values, plan)
        return push_ansatz(self.ansatz, x, lines, y, values, plan)

    def _slopes(
        self, x: Tensor, lines: Tensor, directions: Tensor | None, plan: Channels
    ) -> Tensor:
        """Channels of the features, (n, K, m)."""
        features: Any = self.features

        def computed() -> tuple[Tensor, Tensor]:
            return push_features(features, x.double(), lines, plan)

        found = computed() if directions is not None else kept(x, (features, plan), computed)
        return found[1].to(self.dtype_for(x))


def default_names(d: int, time: bool) -> tuple[str, ...]:
    """Of coordinates that nobody named: x0, x1, ..., and t for time."""
    return (*(f"x{i}" for i in range(d - time)), *["t"] * time)


def check_degree(network: nn.Module, order: int) -> None:
    """Raise where splines are too rough for an equation of this order.

    Splines of degree k have k - 1 continuous derivatives; training differentiates the
    residual once more than the equation: k must be at least order + 1.

    Parameters
    ----------
    network : Module
    order : int
        Of the equation.

    Raises
    ------
    ValueError
        If the degree is lower.

    Examples
    --------
    >>> from sklearn_metakan.nn import KAN
    >>> check_degree(KAN([2, 4, 1], degree=2), order=2)
    Traceback (most recent call last):
        ...
    ValueError: degree must be at least 3 for derivatives of order 2, got 2.
    """
    for module in network.modules():
        basis = getattr(module, "basis", None)
        degree = basis.degree if isinstance(basis, BSplineBasis) else order + 1
        if degree < order + 1:
            raise ValueError(
                f"degree must be at least {order + 1} for derivatives of order {order}, "
                f"got {degree}."
            )


def order_of(request: Request) -> int:
    """The highest order of derivative in a request.

    Parameters
    ----------
    request : frozenset
        Tuples of coordinates, "laplacian" and "normal", as in ``Field.request``.

    Returns
    -------
    int

    Examples
    --------
    >>> order_of(frozenset({(), (0,), (0, 0, 1), "laplacian"}))
    3
    """
    orders = {"laplacian": 2, "normal": 1}
    return max((orders[key] if isinstance(key, str) else len(key) for key in request), default=0)
