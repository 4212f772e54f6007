"""Constants of an equation that are trained: any, or positive ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite, log
from numbers import Real

from torch import Tensor, nn


@dataclass(frozen=True)
class Positive:
    """A constant of an equation that stays positive; it is trained as its logarithm.

    Parameters
    ----------
    value : float
        Where it starts; one of the right power of ten will do.

    Raises
    ------
    ValueError
        Unless it is a finite number above zero.

    Examples
    --------
    >>> from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver
    >>> def residual(x, u, k):  # u'' = -1 / k
    ...     return k * u.d(0, 0) + 1
    >>> solver = KANPDESolver(
    ...     residual, domain=Interval(0, 1), conditions=[Dirichlet(0.0)],
    ...     pde_params={"k": Positive(1.0)}, hidden_layer_sizes=(4,), n_interior=200, n_boundary=2,
    ...     max_iter=0, lm_iter=20, random_state=0,
    ... ).fit([[0.5]], [12.5])
    >>> round(solver.pde_params_["k"], 3)
    0.01
    """

    value: float

    def __post_init__(self) -> None:
        number = isinstance(self.value, Real) and not isinstance(self.value, bool)
        if not number or not isfinite(self.value) or self.value <= 0:
            raise ValueError(f"Positive must start at a number above 0, got {self.value!r}.")


@dataclass(frozen=True)
class Held:
    """A constant whose start is good, and which is not trained before the equation holds with it.

    Parameters
    ----------
    value : float
    """

    value: float


Start = float | Positive | Held


class Constants(nn.ParameterDict):
    """What is trained, by name: each constant, or the logarithm of a ``Positive`` one.

    Raises ValueError if the dtype cannot hold a value.
    """

    def __init__(self, values: Mapping[str, Start], like: Tensor) -> None:
        super().__init__()
        # Where their logarithms start.
        self._positive = {n: log(v.value) for n, v in values.items() if isinstance(v, Positive)}
        self._sizes: list[float] = []
        for name, value in values.items():
            number = float(value.value if isinstance(value, Positive | Held) else value)
            self._sizes.append(1.0 if isinstance(value, Positive) else abs(number) or 1.0)
            if isinstance(value, Positive):
                number = log(number)
            self[name] = nn.Parameter(like.new_tensor(number))
            if not self[name].isfinite():
                raise ValueError(
                    f"pde_params must hold numbers that {like.dtype} can hold, got {name!r}: "
                    f"{value!r}. Set precision='float64', or use another unit."
                )
            self[name].requires_grad_(not isinstance(value, Held))

    def changes(self) -> dict[str, float]:
        """By what positive ones have been multiplied since the start."""
        return {n: exp(min(float(self[n].detach()) - s, 700.0)) for n, s in self._positive.items()}

    def large_changes(self) -> list[float]:
        """Of what is trained: as much as its start, of logarithms one."""
        return self._sizes

    def logarithms(self) -> list[Tensor]:
        """What is trained for positive ones."""
        return [self[name] for name in self._positive]

    def release(self) -> None:
        """From now on those that are held are trained."""
        for parameter in self.values():
            parameter.requires_grad_()

    def constants(self) -> dict[str, Tensor]:
        """Their present values."""
        return {n: p.exp() if n in self._positive else p for n, p in self.items()}
