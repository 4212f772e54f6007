"""The PDE solvers with scikit-learn's interface."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from sklearn_metakan.pde._collocation import Counts
from sklearn_metakan.pde._docs import document
from sklearn_metakan.pde._evaluate import condition_misfits, evaluate
from sklearn_metakan.pde._parameters import SOLVER_CONSTRAINTS
from sklearn_metakan.pde._reading import in_order
from sklearn_metakan.pde._solver import TEST_POINTS, TEST_SEED, TrainedSolver
from sklearn_metakan.pde._trial import TrialFunction
from sklearn_metakan.training import META_CONSTRAINTS, check_working_memory, store


class _Solver(TrainedSolver):
    """What a solver that is trained can be asked."""

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The solution at points.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs) for systems
        """
        return self._evaluated(X, 0, lambda x: self.module_(x))

    def predict_derivative(self, X: ArrayLike, wrt: Any = (0,)) -> NDArray[Any]:
        """A partial derivative of the solution, of order one to four.

        Parameters
        ----------
        X : array-like of shape (n, d)
        wrt : int, str or tuple of such, default=(0,)
            Coordinates, by number or name: ``(0, 0)`` is the second derivative by the first.

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs) for systems
        """
        by = tuple(wrt) if isinstance(wrt, Iterable) and not isinstance(wrt, str) else (wrt,)
        return self._evaluated(X, 2 ** len(by), lambda x: self.module_.field(x).d(*by))

    def predict_residual(self, X: ArrayLike) -> NDArray[Any]:
        """The equation's residual at points, its Laplacian exact.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), or (n, m) for m equations, in the order of ``residual``
        """
        check_is_fitted(self)
        physics = self._physics

        def residual(x: Tensor) -> Tensor:
            found = [*physics.residuals(x).values()]
            return found[0] if len(found) == 1 else torch.stack(found, 1)

        with physics.exact():
            return self._evaluated(X, self.n_features_in_ + 1, residual)

    def score(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> float:
        """How good the solution is; higher is better.

        Parameters
        ----------
        X : array-like of shape (n, d), optional
            Points; by default 2,000 of the domain, the same in every call.
        y : array-like of shape (n,) or (n, n_outputs), optional
            The solution at X, where it is known.

        Returns
        -------
        float
            With y, R2. Without, ``-sqrt(mean r^2 + sum_c mean m_c^2)``: r the residual at X,
            m_c the misfit of condition c at 2,000 points, the same in every call. Weights of
            training do not enter, so that grid searches compare like with like.
        """
        check_is_fitted(self)
        if y is not None:
            if X is None:
                raise ValueError("score with y needs X, the points where y is known.")
            return float(r2_score(y, self.predict(X)))
        squares = np.square(self.predict_residual(self._test_points() if X is None else X))
        collocation = self._collocation(self._problem, TEST_SEED)
        collocation.counts = Counts(TEST_POINTS, TEST_POINTS, TEST_POINTS)
        misfits = condition_misfits(self._physics, collocation.draw(), self._execution)
        return -float(np.sqrt(squares.mean(0).sum() + sum(misfits.values())))

    def _evaluated(
        self, X: ArrayLike, channels: int, quantity: Callable[[Tensor], Tensor]
    ) -> NDArray[Any]:
        check_is_fitted(self)
        check_working_memory(self)
        X = in_order(X, self._problem.variables)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return evaluate(self._physics, X, self._execution, self.working_memory, channels, quantity)

    @property
    def module_(self) -> TrialFunction:  # type: ignore[override]
        """The solution as a torch module, (n, d) -> (n,) or (n, k)."""
        return self._physics.trial


@document
class KANPDESolver(_Solver):
    """Solves a partial differential equation with a Kolmogorov-Arnold network.

    The network is trained until the equation's residual and the conditions' misfits vanish at
    points drawn from the domain: the sum of their mean squares is minimised.

    Parameters
    ----------
    {PROBLEM}
    {NETWORK}
    {TRAINING}

    Attributes
    ----------
    {ATTRIBUTES}

    See Also
    --------
    MetaKANPDESolver : Generated coefficients: fewer trainable numbers.

    References
    ----------
    Raissi, Perdikaris, Karniadakis, "Physics-informed neural networks", 2019.
    {PAPER}

    Examples
    --------
    >>> from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver
    >>> def residual(x, u):  # u'' = -1, u = 0 at both ends
    ...     return u.d(0, 0) + 1
    >>> solver = KANPDESolver(
    ...     residual, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], hidden_layer_sizes=(4,),
    ...     n_interior=200, n_boundary=2, max_iter=0, lbfgs_iter=100, random_state=0,
    ... ).fit()
    >>> bool(abs(solver.predict([[0.5]])[0] - 1 / 8) < 0.01)
    True
    """

    def __init__(
        self,
        residual: Callable[..., Any],
        *,
        domain: Any = None,
        boundary: Any = None,
        conditions: Any = (),
        ansatz: Callable[..., Tensor] | None = None,
        n_outputs: int = 1,
        variables: Sequence[str] | None = None,
        pde_params: dict[str, float] | None = None,
        solution: Callable[..., Any] | None = None,
        derivatives: str = "exact",
        n_directions: int = 4,
        n_interior: int = 1000,
        n_boundary: int = 200,
        n_initial: int = 200,
        sampling: str = "uniform",
        resample_every: int | None = 1,
        loss_weights: dict[str, float] | str | None = None,
        causal: float | None = None,
        hidden_layer_sizes: Sequence[int] = (32, 32),
        grid_size: int = 5,
        learning_rate: float | str = "auto",
        max_iter: int | str = "auto",
        lbfgs_iter: int = 0,
        lm_iter: int = 0,
        weight_decay: float | str = "auto",
        basis: str = "bspline",
        degree: int = 3,
        learning_rate_schedule: str = "onecycle",
        warm_start: bool = False,
        device: str | torch.device = "auto",
        precision: str = "auto",
        working_memory: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: Sequence[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        store(self, locals())


@document
class MetaKANPDESolver(_Solver):
    """Solves a partial differential equation with a KAN whose edges a meta-learner generates.

    As ``KANPDESolver``; coefficients come from a small meta-learner, ``w_oi = a_oi M(z_oi)``, so
    that an edge costs a prompt z_oi of p numbers in place of C coefficients.

    Parameters
    ----------
    {PROBLEM}
    {NETWORK}
    {META}
    {TRAINING}

    Attributes
    ----------
    {ATTRIBUTES}

    See Also
    --------
    KANPDESolver : Every edge with its own coefficients.

    References
    ----------
    Raissi, Perdikaris, Karniadakis, "Physics-informed neural networks", 2019.
    {PAPER}

    Examples
    --------
    >>> from sklearn_metakan.pde import Ball, MetaKANPDESolver
    >>> def residual(x, u):  # laplace(u) = -4 in the unit disc
    ...     return u.laplacian() + 4
    >>> def ansatz(x, net):  # u = 0 on its edge
    ...     return (1 - x.square().sum(1)) * net
    >>> solver = MetaKANPDESolver(
    ...     residual, domain=Ball([0, 0]), ansatz=ansatz, hidden_layer_sizes=(4,), n_interior=100,
    ...     max_iter=0, lbfgs_iter=50, random_state=0,
    ... ).fit()
    >>> bool(abs(solver.predict([[0.0, 0.0]])[0] - 1) < 0.01)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {**SOLVER_CONSTRAINTS, **META_CONSTRAINTS}
    _is_meta = True

    def __init__(
        self,
        residual: Callable[..., Any],
        *,
        domain: Any = None,
        boundary: Any = None,
        conditions: Any = (),
        ansatz: Callable[..., Tensor] | None = None,
        n_outputs: int = 1,
        variables: Sequence[str] | None = None,
        pde_params: dict[str, float] | None = None,
        solution: Callable[..., Any] | None = None,
        derivatives: str = "exact",
        n_directions: int = 4,
        n_interior: int = 1000,
        n_boundary: int = 200,
        n_initial: int = 200,
        sampling: str = "uniform",
        resample_every: int | None = 1,
        loss_weights: dict[str, float] | str | None = None,
        causal: float | None = None,
        hidden_layer_sizes: Sequence[int] = (32, 32),
        grid_size: int = 5,
        learning_rate: float | str = "auto",
        max_iter: int | str = "auto",
        lbfgs_iter: int = 0,
        lm_iter: int = 0,
        weight_decay: float | str = "auto",
        basis: str = "bspline",
        degree: int = 3,
        prompt_dim: int = 3,
        meta_hidden_dim: int = 0,
        meta_activation: str = "sin",
        edge_scale: bool = False,
        n_meta_learners: int | str = "layer",
        prompt_learning_rate: float | None = None,
        meta_learning_rate: float | None = None,
        learning_rate_schedule: str = "onecycle",
        warm_start: bool = False,
        device: str | torch.device = "auto",
        precision: str = "auto",
        working_memory: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: Sequence[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        store(self, locals())
