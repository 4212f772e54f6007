"""The trial function: network, scaling and ansatz, with its derivatives at given points."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sklearn_metakan.pde._ansatz import Ansatz, apply_ansatz, push_ansatz
from sklearn_metakan.pde._channels import Channels, Sum, channels
from sklearn_metakan.pde._constants import indices
from sklearn_metakan.pde._field import Field, Key, Request, Values
from sklearn_metakan.pde._nested import nested_derivatives
from sklearn_metakan.pde._push import push, push_coordinates, steps

Derivatives = Literal["exact", "sdgd", "hutchinson"]


class TrialFunction(nn.Module):
    """``u(x) = g(x, b + a * network((x - shift) / scale))``, g the ansatz, with derivatives.

    Parameters
    ----------
    network : Module, (n, d) -> (n, k)
        Derivatives are pushed through KANs, and through sequences of KAN and linear layers
        and the usual activations; for any other module they come from nested autograd.
    input_shift, input_scale : Tensor of shape (d) or number, default=0 and 1
    output_shift, output_scale : Tensor of shape (k) or number, default=0 and 1
    ansatz : callable, optional
        ``g(x, net)``, torch, row by row; net and its value are (n,) if there is one output.
    variables : sequence of str, optional
        Names of the coordinates; by default "x0", "x1", ..., and "t" for time.
    time : bool, default=False
        Whether the last coordinate is time: gradient, divergence and Laplacian are then in
        space alone.
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
        variables: Sequence[str] | None = None,
        time: bool = False,
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
        self.network, self.ansatz, self.time = network, ansatz, time
        self.variables = None if variables is None else tuple(variables)
        self.derivatives, self.n_directions, self.nested = derivatives, n_directions, nested
        like = next((p for p in network.parameters()), torch.zeros(()))
        scaling = {
            "input_shift": input_shift,
            "input_scale": input_scale,
            "output_shift": output_shift,
            "output_scale": output_scale,
        }
        for name, value in scaling.items():
            stored = torch.as_tensor(value).detach().clone().to(like)
            if not stored.isfinite().all() or (name.endswith("scale") and (stored == 0).any()):
                raise ValueError(f"{name} must be finite, and scales not zero, got {value}.")
            self.register_buffer(name, stored)

    def raw(self, x: Tensor) -> Tensor:
        """The network with its scaling, before the ansatz: (n, d) -> (n, k)."""
        y = self.network((x - self.input_shift) / self.input_scale)
        return self.output_shift + self.output_scale * y

    def columns(self, x: Tensor) -> Tensor:
        """u at x, always (n, k)."""
        raw = self.raw(x)
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
        """
        if x.ndim != 2:
            raise ValueError(f"x must have the shape (n, d), got {tuple(x.shape)}.")
        if normal is not None and normal.shape != x.shape:
            raise ValueError(
                f"normal must have the shape of x, {tuple(x.shape)}, got {tuple(normal.shape)}."
            )
        names = self.variables or self._usual_names(x.shape[1])
        if len(names) != x.shape[1]:
            raise ValueError(
                f"variables must name each of the {x.shape[1]} columns of x, got {names}."
            )
        x = x.detach()
        evaluation = _Evaluation(self, x, normal, request, generator, n_sets)
        return [Field(self, x, evaluation, names, self.time, number) for number in range(n_sets)]

    def _usual_names(self, d: int) -> tuple[str, ...]:
        names = [f"x{i}" for i in range(d)]
        return (*names[:-1], "t") if self.time else tuple(names)

    def push(self, x: Tensor, directions: Tensor | None, plan: Channels) -> tuple[Tensor, Tensor]:
        """Value (n, k) and channels (n, K, k) of u.

        ``directions`` (n, K_1, d) are those of the plan's first derivatives; None: direction
        k is coordinate k.
        """
        modules = None if self.nested else steps(self.network)
        scale = self.input_scale.expand(x.shape[1])
        if directions is None and (modules is None or self.ansatz is not None):
            axes = [index[0] for index in plan.indices[: plan.n_first]]
            lines = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            lines = lines[indices(axes, x.device)]
            lines = lines.expand(len(x), -1, -1)
        elif directions is not None:
            lines = directions
        if modules is None:
            return nested_derivatives(self.columns, x, lines, plan)
        inputs = (x - self.input_shift) / self.input_scale
        if directions is None:
            y, values = push_coordinates(modules, inputs, 1 / scale, plan)
        else:
            higher = x.new_zeros(1, 1, 1).expand(len(x), plan.n_channels - plan.n_first, x.shape[1])
            y, values = push(modules, inputs, torch.cat([directions / scale, higher], 1), plan)
        y, values = self.output_shift + self.output_scale * y, self.output_scale * values
        if self.ansatz is None:
            return y, values
        return push_ansatz(self.ansatz, x, lines, y, values, plan)


class _Evaluation(Values):
    """Derivatives of one trial function at some points, each computed once."""

    def __init__(
        self,
        trial: TrialFunction,
        x: Tensor,
        normal: Tensor | None,
        request: Request,
        generator: torch.Generator | None,
        n_sets: int,
    ) -> None:
        self.trial, self.x, self.normal = trial, x, normal
        self.expected, self.generator, self.n_sets = request, generator, n_sets
        self.asked: set[Key] = set()
        self.was_called = False
        self.found: dict[Any, tuple[Tensor, int]] = {}  # key: tensor (n, K, k) and its place
        self.versions: dict[Any, int] = {}  # of these tensors, which a change in place raises

    @property
    def n_space(self) -> int:
        return self.x.shape[1] - self.trial.time

    @property
    def was_changed(self) -> bool:
        return any(self.found[name][0]._version != old for name, old in self.versions.items())

    @property
    def is_random(self) -> bool:
        few = self.trial.derivatives == "sdgd" and self.trial.n_directions >= self.n_space
        return self.trial.derivatives != "exact" and not few

    def take(self, keys: Sequence[Key], number: int) -> Tensor:
        """(n, len(keys), k)."""
        self.asked.update(keys)
        names = [self._name(key, number) for key in keys]
        if not all(name in self.found for name in names):
            known = {
                key for key in self.expected | {*keys} if self._name(key, number) not in self.found
            }
            self._compute(known)
        tensors = {id(self.found[name][0]) for name in names}
        if len(tensors) == 1:
            whole, places = self.found[names[0]][0], [self.found[name][1] for name in names]
            if places == [*range(places[0], places[0] + len(places))]:
                return whole[:, places[0] : places[0] + len(places)]
            return whole[:, indices(places, whole.device)]
        return torch.stack([self.found[name][0][:, self.found[name][1]] for name in names], 1)

    def _name(self, key: Key, number: int) -> Any:
        return (key, number if key == "laplacian" and self.is_random else 0)

    def _compute(self, keys: set[Key]) -> None:
        partials = [key for key in keys if isinstance(key, tuple) and key]
        exact = [] if self.is_random or "laplacian" not in keys else [self._laplacian()]
        along_normal = "normal" in keys
        random = "laplacian" in keys and self.is_random
        if partials or exact:
            plan = channels(partials, exact)
            value, values = self.trial.push(self.x, None, plan)
            self._keep((), 0, value[:, None], 0)
            for index in plan.indices:
                self._keep(index, 0, values, plan.position(index))
            if exact:
                self._keep("laplacian", 0, values, plan.sum_position(0))
        if along_normal or random:
            self._along_directions(along_normal, random)
        if () in keys and ((), 0) not in self.found:
            self._keep((), 0, self.trial.columns(self.x)[:, None], 0)

    def _keep(self, key: Key, number: int, tensor: Tensor, place: int) -> None:
        if (key, number) not in self.found:
            self.found[key, number] = (tensor, place)
            self.versions[key, number] = tensor._version

    def _laplacian(self) -> Sum:
        return Sum(tuple(range(self.n_space)), 1.0)

    def _along_directions(self, along_normal: bool, random: bool) -> None:
        """Normal derivative and random Laplacians, directions given for each point."""
        lines = []
        if along_normal:
            assert self.normal is not None
            lines.append(self.normal[:, None])
        sums = []
        if random:
            for _ in range(self.n_sets):
                first = sum(line.shape[1] for line in lines)
                drawn, weight = self._draw()
                lines.append(drawn)
                sums.append(Sum(tuple(range(first, first + drawn.shape[1])), weight))
        directions = torch.cat(lines, 1)
        plan = channels([(k,) for k in range(directions.shape[1])], sums)
        value, values = self.trial.push(self.x, directions, plan)
        self._keep((), 0, value[:, None], 0)
        if along_normal:
            self._keep("normal", 0, values, 0)
        for number in range(len(sums)):
            self._keep("laplacian", number, values, plan.sum_position(number))

    def _draw(self) -> tuple[Tensor, float]:
        """Directions of each point, (n, n_directions, d), and their weight in the sum."""
        x, d, count = self.x, self.n_space, self.trial.n_directions
        random: dict[str, Any] = {"generator": self.generator, "device": x.device}
        if self.trial.derivatives == "sdgd":
            order = torch.rand(len(x), d, **random).topk(count, dim=1).indices
            lines = nn.functional.one_hot(order, x.shape[1]).to(x.dtype)
            return lines, d / count
        lines = x.new_zeros(len(x), count, x.shape[1])
        lines[..., :d] = 2.0 * torch.randint(2, (len(x), count, d), **random) - 1.0
        return lines, 1.0 / count


def check_degree(network: nn.Module, order: int) -> None:
    """Raise where splines are too rough for an equation of this order.

    Splines of degree k have k - 1 continuous derivatives; training differentiates the
    residual once more than the equation: k must be at least order + 1.

    Examples
    --------
    >>> from sklearn_metakan.nn import KAN
    >>> check_degree(KAN([2, 4, 1], degree=2), order=2)
    Traceback (most recent call last):
        ...
    ValueError: degree must be at least 3 for derivatives of order 2, got 2.
    """
    for module in network.modules():
        degree: Any = getattr(getattr(module, "basis", None), "degree", None)
        if isinstance(degree, int) and degree < order + 1:
            raise ValueError(
                f"degree must be at least {order + 1} for derivatives of order {order}, "
                f"got {degree}."
            )


def order_of(request: Request) -> int:
    """The highest order of derivative in a request.

    Examples
    --------
    >>> order_of(frozenset({(), (0,), (0, 0, 1), "laplacian"}))
    3
    """
    orders = {"laplacian": 2, "normal": 1}
    return max((orders[key] if isinstance(key, str) else len(key) for key in request), default=0)
