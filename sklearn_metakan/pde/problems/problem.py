"""What problems share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sklearn_metakan.pde.domains.domain import Domain
from sklearn_metakan.pde.physics.conditions import BaseCondition
from sklearn_metakan.pde.physics.field import Field


@dataclass(frozen=True)
class Problem(ABC):
    """An equation with a known solution; the page of ``problems`` says what it offers."""

    n_outputs: ClassVar[int] = 1
    variables: ClassVar[tuple[str, ...] | None] = None
    ansatz: ClassVar[Any] = None  # or a function (x, net)

    @property
    @abstractmethod
    def domain(self) -> Domain: ...

    @property
    def conditions(self) -> tuple[BaseCondition, ...]:
        return ()

    @abstractmethod
    def residual(self, x: Tensor, u: Field) -> Any:
        """Zero where u is the solution, at points x (n, d): (n,), or a tuple or dict of such."""

    @abstractmethod
    def solution(self, x: Tensor) -> Tensor:
        """u at points x (n, d): (n,), or (n, k) of k functions."""

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of a solver that state the problem."""
        names = ("residual", "domain", "conditions", "ansatz", "n_outputs", "variables", "solution")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class InDimensions(Problem):
    """A problem of any dimension from ``least`` on; a ValueError for another."""

    dim: int = 2
    least: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < self.least:
            raise ValueError(f"dim must be an integer of at least {self.least}, got {self.dim!r}.")
