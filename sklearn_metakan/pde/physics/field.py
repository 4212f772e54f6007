"""What a residual sees of the solution: its value and derivatives at the points."""

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn

from sklearn_metakan.pde.derivatives.channels import MAX_ORDER, Sum, channels, picked

Key = tuple[int, ...] | str  # coordinates, sorted; "laplacian"; "normal"
Request = frozenset[Key]


class Field:
    """The unknown u at points x (n, d), for residuals and conditions.

    With one output all quantities are (n,), with k outputs (n, k); derivatives by several
    coordinates at once have them as their last axis: ``grad()`` is (n, d) or (n, k, d).
    ``u[j]`` is output j as a scalar field, ``u[i:j]`` a field of several outputs, and
    ``u(points)`` evaluates u anywhere, for residuals that use ``torch.autograd`` themselves.

    Where the last coordinate is time, ``grad``, ``divergence`` and ``laplacian`` are in space
    alone, and so where coordinates are parameters; ``d`` and ``dt`` reach all.
    Derivatives are computed when they are first asked for, exactly; the Laplacian alone may be an
    estimate (``derivatives`` of the solver).

    Parameters
    ----------
    values : Evaluation
        What is known of u at the points; ``TrialFunction.field`` makes it.
    number : int, optional
        Which set of random directions an estimated Laplacian has; None averages all.
    outputs : int or slice, optional
        Which outputs; all by default.

    Attributes
    ----------
    value : Tensor of shape (n,) or (n, k)
    request : frozenset
        All that was asked for so far.
    was_called : bool
        Whether u was evaluated at other points, ``u(points)``.
    was_changed : bool
        Whether a quantity was changed in place, which would change it for all later uses.

    Examples
    --------
    >>> import torch
    >>> from sklearn_metakan.nn import KAN
    >>> from sklearn_metakan.pde import TrialFunction
    >>> trial = TrialFunction(KAN([2, 8, 1]), variables=("x", "t"), time=True)
    >>> u = trial.field(torch.rand(5, 2))
    >>> residual = u.dt() + u.value * u.d("x") - 0.01 * u.d("x", "x")
    >>> residual.shape
    torch.Size([5])
    """

    def __init__(
        self, values: "Evaluation", number: int | None = 0, outputs: int | slice | None = None
    ) -> None:
        self._values, self._number, self._outputs = values, number, outputs

    def __repr__(self) -> str:
        return f"Field({len(self._values.x)} points, variables={self._values.variables})"

    def __getitem__(self, outputs: int | slice) -> "Field":
        if self._outputs is not None:
            raise IndexError("u[j] is a field of chosen outputs already; index u itself.")
        count = self._columns(()).shape[-1]
        if isinstance(outputs, int):
            if not -count <= outputs < count:
                raise IndexError(f"u has {count} outputs, u[{outputs}] is none of them.")
        elif not isinstance(outputs, slice):
            raise TypeError(f"outputs are chosen by an integer or a slice, got {outputs!r}.")
        return Field(self._values, self._number, outputs)

    def __iter__(self) -> Iterator["Field"]:
        """For ``u, v, p = field``."""
        return (self[j] for j in range(self._columns(()).shape[-1]))

    def __call__(self, x: Tensor) -> Tensor:
        """u at any points (m, d), differentiable by them."""
        self._values.was_called = True
        return self._shaped(self._values.trial.columns(x))

    def of_all_sets(self) -> "Field":
        """With the mean of the Laplacians along every set of directions."""
        return Field(self._values, None, self._outputs)

    @property
    def request(self) -> Request:
        return frozenset(self._values.asked)

    @property
    def was_called(self) -> bool:
        return self._values.was_called

    @property
    def was_changed(self) -> bool:
        found = self._values.found.values()
        return any(tensor._version != version for tensor, _, version in found)

    @property
    def value(self) -> Tensor:
        return self._shaped(self._columns(()))

    def d(self, *wrt: int | str) -> Tensor:
        """A partial derivative of order one to four: ``u.d(0)``, ``u.d("x", "x", "t")``.

        Parameters
        ----------
        *wrt : int or str
            One to four coordinates, by number or name.

        Raises
        ------
        ValueError
            For another order, and for what is no coordinate.
        """
        if not 1 <= len(wrt) <= MAX_ORDER:
            raise ValueError(f"u.d takes one to {MAX_ORDER} coordinates, got {len(wrt)}.")
        return self._shaped(self._columns(tuple(sorted(self._coordinate(name) for name in wrt))))

    def dt(self) -> Tensor:
        """The derivative by time, the last coordinate; without time, raises a ValueError."""
        if not self._values.trial.time:
            raise ValueError(
                "u.dt() needs a time: a SpaceTime domain, or variables whose last name is 't'; "
                f"the variables are {self._values.variables}."
            )
        return self._shaped(self._columns((self._values.x.shape[1] - 1,)))

    def grad(self) -> Tensor:
        """The gradient in space, (n, d) or (n, k, d)."""
        keys: list[Key] = [(i,) for i in range(self._values.n_space)]
        return self._shaped(self._values.take(keys, self._number).transpose(1, 2))

    def laplacian(self) -> Tensor:
        """The sum of second derivatives in space, or an unbiased estimate of it."""
        return self._shaped(self._columns("laplacian"))

    def divergence(self) -> Tensor:
        """``sum_i d u_i / d x_i`` in space, (n,).

        Raises
        ------
        ValueError
            Unless there are as many outputs as dimensions of space.
        """
        gradient, n_space = self.grad(), self._values.n_space
        if gradient.ndim == 2:
            gradient = gradient[:, None]
        if gradient.shape[1] != n_space:
            raise ValueError(
                f"u.divergence() needs one output for each of the {n_space} dimensions, "
                f"got {gradient.shape[1]}; choose them with u[:{n_space}]."
            )
        return gradient.diagonal(dim1=1, dim2=2).sum(-1)

    def integral(
        self,
        over: int | str,
        low: float,
        high: float | None = None,
        kernel: Callable[[Tensor, Tensor], Tensor] | None = None,
        n_nodes: int = 20,
    ) -> Tensor:
        """``integral of kernel(x, s) u(x with s in place of one coordinate) ds``, at each point.

        Parameters
        ----------
        over : int or str
            The coordinate.
        low, high : float
            Ends; without ``high`` up to the point's own coordinate.
        kernel : callable, optional
            Of points x (m, d) and s (m), (m); 1 by default.
        n_nodes : int, default=20
            Of Gauss-Legendre quadrature.

        u is evaluated at ``n_nodes`` other points for each.
        """
        x, axis = self._values.x, self._coordinate(over)
        nodes, weights = (torch.as_tensor(each).to(x) for each in leggauss(n_nodes))
        top = x[:, axis] if high is None else torch.full_like(x[:, axis], high)
        half = (top - low)[:, None] / 2
        s = (low + half * (1 + nodes)).flatten()
        points = x.repeat_interleave(n_nodes, 0)
        moved = points.clone()
        moved[:, axis] = s
        u = self(moved)
        factor = (half * weights).flatten()
        if kernel is not None:
            factor = factor * kernel(points, s)
        terms = factor.reshape(-1, *[1] * (u.ndim - 1)) * u
        return terms.unflatten(0, (len(x), n_nodes)).sum(1)

    def normal_derivative(self) -> Tensor:
        """The derivative along the outward normal; where there is none, raises a ValueError."""
        if self._values.normal is None:
            raise ValueError(
                "u.normal_derivative() needs normals, which only conditions on a boundary have."
            )
        return self._shaped(self._columns("normal"))

    def _coordinate(self, name: int | str) -> int:
        variables = self._values.variables
        count = len(variables)
        if isinstance(name, str) and name in variables:
            return variables.index(name)
        if isinstance(name, Integral) and not isinstance(name, bool) and -count <= name < count:
            return int(name) % count
        raise ValueError(
            f"u.d takes names of variables, {variables}, or numbers of columns from 0 to "
            f"{count - 1}, got {name!r}."
        )

    def _columns(self, key: Key) -> Tensor:
        return self._values.take([key], self._number)[:, 0]

    def _shaped(self, columns: Tensor) -> Tensor:
        """(n, k, ...) with the outputs chosen, without their axis where there is one."""
        if self._outputs is not None:
            return columns[:, self._outputs]
        return columns[:, 0] if columns.shape[1] == 1 else columns


class Evaluation:
    """Derivatives of one trial function at some points, each computed once.

    What is requested is computed together, as soon as some of it is asked for. The Laplacian
    alone may depend on random directions, of which there are n_sets sets: a field has the number
    of one of them, or None for their mean.
    """

    def __init__(
        self,
        trial: Any,
        x: Tensor,
        normal: Tensor | None,
        variables: tuple[str, ...],
        request: Request,
        generator: torch.Generator | None,
        n_sets: int,
    ) -> None:
        self.trial, self.x, self.normal, self.variables = trial, x, normal, variables
        self.expected, self.generator, self.n_sets = request, generator, n_sets
        self.n_space = x.shape[1] - trial.time - trial.n_parameters
        few = trial.derivatives == "sdgd" and trial.n_directions >= self.n_space
        self.is_random = trial.derivatives != "exact" and not few
        self.asked: set[Key] = set()
        self.was_called = False
        # By key and set: a tensor (n, K, k), the place in it, and its version, which a change
        # in place raises.
        self.found: dict[tuple[Key, int], tuple[Tensor, int, int]] = {}

    def take(self, keys: Sequence[Key], number: int | None) -> Tensor:
        """(n, len(keys), k)."""
        if number is None:
            return torch.stack([self.take(keys, j) for j in range(self.n_sets)]).mean(0)
        self.asked.update(keys)
        names = [self._name(key, number) for key in keys]
        if not all(name in self.found for name in names):
            wanted = self.expected | {*keys}
            self._compute({k for k in wanted if self._name(k, number) not in self.found})
        tensors, places, _ = zip(*(self.found[name] for name in names), strict=True)
        if all(tensor is tensors[0] for tensor in tensors):
            return picked(tensors[0], places)
        return torch.stack([t[:, place] for t, place in zip(tensors, places, strict=True)], 1)

    def _name(self, key: Key, number: int) -> tuple[Key, int]:
        return key, number if key == "laplacian" and self.is_random else 0

    def _keep(self, key: Key, number: int, tensor: Tensor, place: int) -> None:
        self.found.setdefault((key, number), (tensor, place, tensor._version))

    def _compute(self, keys: set[Key]) -> None:
        partials = [key for key in keys if isinstance(key, tuple) and key]
        laplacian = [Sum(tuple(range(self.n_space)), 1.0)] * ("laplacian" in keys)
        if partials or (laplacian and not self.is_random):
            plan = channels(partials, () if self.is_random else laplacian)
            value, values = self.trial.push(self.x, None, plan)
            self._keep((), 0, value[:, None], 0)
            for index in plan.indices:
                self._keep(index, 0, values, plan.position(index))
            if plan.sums:
                self._keep("laplacian", 0, values, plan.sum_position(0))
        self._along_directions("normal" in keys, bool(laplacian) and self.is_random)
        if () in keys and ((), 0) not in self.found:
            self._keep((), 0, self.trial.columns(self.x)[:, None], 0)

    def _along_directions(self, along_normal: bool, random: bool) -> None:
        """Normal derivative and random Laplacians, directions given for each point."""
        lines, sums = [], []
        if along_normal:
            assert self.normal is not None
            lines.append(self.normal[:, None].to(self.trial.dtype_for(self.x)))
        for _ in range(self.n_sets if random else 0):
            first = sum(line.shape[1] for line in lines)
            drawn, weight = self._draw()
            lines.append(drawn)
            sums.append(Sum(tuple(range(first, first + drawn.shape[1])), weight))
        if not lines:
            return
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
        dtype = self.trial.dtype_for(x)
        if self.trial.derivatives == "sdgd":
            order = torch.rand(len(x), d, **random).topk(count, dim=1).indices
            return nn.functional.one_hot(order, x.shape[1]).to(dtype), d / count
        signs = 2.0 * torch.randint(2, (len(x), count, d), **random) - 1.0
        return nn.functional.pad(signs.to(dtype), (0, x.shape[1] - d)), 1.0 / count
