"""What a residual sees of the solution: its value and derivatives at the points."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Protocol

from torch import Tensor

from sklearn_metakan.pde._channels import MAX_ORDER

Key = tuple[int, ...] | str  # coordinates, sorted; "laplacian"; "normal"
Request = frozenset[Key]


class Values(Protocol):
    """Derivatives at some points, computed when they are first asked for."""

    normal: Tensor | None
    asked: set[Key]
    was_called: bool

    @property
    def was_changed(self) -> bool: ...

    def take(self, keys: Sequence[Key], number: int) -> Tensor: ...


class _Halfway(Values):
    """The mean of two sets of random directions."""

    def __init__(self, values: Values) -> None:
        self.values, self.normal = values, values.normal
        self.asked, self.was_called = values.asked, False

    @property
    def was_changed(self) -> bool:
        return self.values.was_changed

    def take(self, keys: Sequence[Key], number: int) -> Tensor:
        return (self.values.take(keys, 0) + self.values.take(keys, 1)) / 2


class Field:
    """The unknown u at points x (n, d), for residuals and conditions.

    With one output all quantities are (n,), with k outputs (n, k); derivatives by several
    coordinates at once have them as their last axis: ``grad()`` is (n, d) or (n, k, d).
    ``u[j]`` is output j as a scalar field, ``u[i:j]`` a field of several outputs, and
    ``u(points)`` evaluates u anywhere, for residuals that use ``torch.autograd`` themselves.

    Where the last coordinate is time, ``grad``, ``divergence`` and ``laplacian`` are in space
    alone; ``d`` and ``dt`` reach time. Derivatives are computed when they are first asked for,
    exactly; the Laplacian alone may be an estimate (``derivatives`` of the solver).

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
        self,
        function: Callable[[Tensor], Tensor],
        x: Tensor,
        values: Values,
        variables: Sequence[str],
        time: bool = False,
        number: int = 0,
        outputs: int | slice | None = None,
    ) -> None:
        self._function, self._x, self._values = function, x, values
        self._variables, self._time, self._number = tuple(variables), time, number
        self._outputs = outputs

    def __repr__(self) -> str:
        return f"Field({len(self._x)} points, variables={self._variables})"

    def __getitem__(self, outputs: int | slice) -> "Field":
        if self._outputs is not None:
            raise IndexError("u[j] is a field of chosen outputs already; index u itself.")
        count = self._columns(()).shape[-1]
        if isinstance(outputs, int):
            if not -count <= outputs < count:
                raise IndexError(f"u has {count} outputs, u[{outputs}] is none of them.")
        elif not isinstance(outputs, slice):
            raise TypeError(f"outputs are chosen by an integer or a slice, got {outputs!r}.")
        return Field(
            self._function,
            self._x,
            self._values,
            self._variables,
            self._time,
            self._number,
            outputs,
        )

    def __iter__(self) -> Any:
        """For ``u, v, p = field``."""
        return (self[j] for j in range(self._columns(()).shape[-1]))

    def __call__(self, x: Tensor) -> Tensor:
        self._values.was_called = True
        y = self._function(x)
        if self._outputs is None:
            return y
        return (y[:, None] if y.ndim == 1 else y)[:, self._outputs]

    @property
    def request(self) -> Request:
        return frozenset(self._values.asked)

    @property
    def was_called(self) -> bool:
        return self._values.was_called

    @property
    def was_changed(self) -> bool:
        return self._values.was_changed

    def halfway(self) -> "Field":
        """Of a field drawn in two sets: the same with the mean of their Laplacians."""
        values = _Halfway(self._values)
        return Field(self._function, self._x, values, self._variables, self._time)

    @property
    def value(self) -> Tensor:
        return self._shaped(self._columns(()))

    def d(self, *wrt: int | str) -> Tensor:
        """A partial derivative of order one to four: ``u.d(0)``, ``u.d("x", "x", "t")``."""
        if not 1 <= len(wrt) <= MAX_ORDER:
            raise ValueError(f"u.d takes one to {MAX_ORDER} coordinates, got {len(wrt)}.")
        return self._shaped(self._columns(tuple(sorted(self._coordinate(name) for name in wrt))))

    def dt(self) -> Tensor:
        """The derivative by time, the last coordinate."""
        if not self._time:
            raise ValueError(
                "u.dt() needs a time: a SpaceTime domain, or variables whose last name is 't'; "
                f"the variables are {self._variables}."
            )
        return self._shaped(self._columns((len(self._variables) - 1,)))

    def grad(self) -> Tensor:
        """The gradient in space, (n, d) or (n, k, d)."""
        keys: list[Key] = [(i,) for i in range(self._n_space)]
        return self._shaped(self._values.take(keys, self._number).transpose(1, 2))

    def laplacian(self) -> Tensor:
        """The sum of second derivatives in space, or an unbiased estimate of it."""
        return self._shaped(self._columns("laplacian"))

    def divergence(self) -> Tensor:
        """``sum_i d u_i / d x_i`` in space, (n,); of as many outputs as there are dimensions."""
        gradient = self.grad()
        if gradient.ndim == 2 and self._n_space == 1:
            return gradient[:, 0]
        if gradient.ndim == 2 or gradient.shape[1] != gradient.shape[2]:
            outputs = 1 if gradient.ndim == 2 else gradient.shape[1]
            raise ValueError(
                f"u.divergence() needs one output for each of the {self._n_space} dimensions, "
                f"got {outputs}; choose them with u[:{self._n_space}]."
            )
        return gradient.diagonal(dim1=1, dim2=2).sum(-1)

    def normal_derivative(self) -> Tensor:
        """The derivative along the outward normal."""
        if self._values.normal is None:
            raise ValueError(
                "u.normal_derivative() needs normals, which only conditions on a boundary have."
            )
        return self._shaped(self._columns("normal"))

    @property
    def _n_space(self) -> int:
        return len(self._variables) - self._time

    def _coordinate(self, name: int | str) -> int:
        count = len(self._variables)
        if isinstance(name, str) and name in self._variables:
            return self._variables.index(name)
        if isinstance(name, Integral) and not isinstance(name, bool) and -count <= name < count:
            return int(name) % count
        raise ValueError(
            f"u.d takes names of variables, {self._variables}, or numbers of columns from 0 to "
            f"{count - 1}, got {name!r}."
        )

    def _columns(self, key: Key) -> Tensor:
        return self._values.take([key], self._number)[:, 0]

    def _shaped(self, columns: Tensor) -> Tensor:
        """(n, k, ...) with the outputs chosen, without their axis where there is one."""
        if self._outputs is not None:
            return columns[:, self._outputs]
        return columns[:, 0] if columns.shape[1] == 1 else columns
