"""How a PDE solver trains, and what it can then be asked."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import nan
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_metakan.nn import build_network
from sklearn_metakan.pde.physics.checks import check_conditions, check_physics
from sklearn_metakan.pde.physics.conditions import BaseCondition, Condition
from sklearn_metakan.pde.physics.physics import Physics
from sklearn_metakan.pde.physics.trial import TrialFunction
from sklearn_metakan.pde.solve.collocation import Collocation, Steps
from sklearn_metakan.pde.solve.least_squares import LevenbergMarquardt, check_least_squares
from sklearn_metakan.pde.solve.net import REPORT, PDENet, PDEProgress
from sklearn_metakan.pde.solve.parameters import SOLVER_CONSTRAINTS, check_settings
from sklearn_metakan.pde.solve.problem import Problem, in_order, read_problem
from sklearn_metakan.training import (
    BaseKANEstimator,
    Execution,
    LearningRateSchedule,
    Monitor,
    by_chunks,
    check_widths,
    check_working_memory,
    choose_execution,
    draw_seeds,
)

STEPS = 5000  # what max_iter="auto" means
LM_REPORT = 10  # steps of Levenberg-Marquardt between two readings of the losses
TEST_POINTS, TEST_SEED = 2000, 0  # where a known solution is compared, and scores are taken
DEFAULT_MEMORY = 64.0  # MiB, of predictions
_COPIES = 4  # of a row's channels that are alive at a time


def build_physics(
    *,
    trial: Mapping[str, Any],
    residual: Callable[..., Any],
    conditions: Mapping[str, BaseCondition],
    pde_params: Mapping[str, float],
    causal: tuple[float, float, float] | None,
    **network: Any,
) -> Physics:
    """From settings to the module: ``network`` for ``build_network``, ``trial`` as named."""
    function = TrialFunction(build_network(**network), **trial)
    return Physics(function, residual, conditions, pde_params, causal)


class PDESolver(BaseKANEstimator):
    """The base of the PDE solvers; not for use on its own.

    Constructor parameters are those of ``KANPDESolver``.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = SOLVER_CONSTRAINTS
    _net_type = PDENet
    _make_module = staticmethod(build_physics)
    adamw_learning_rate = 0.01
    adamw_prompt_learning_rate = 0.1
    adamw_weight_decay = 0.0
    # What the estimators for tables let choose.
    solver, knots, dropout, extrapolation = "adamw", "uniform", 0.0, "base"

    net_: PDENet
    loss_terms_: dict[str, NDArray[np.float64]]
    pde_params_: dict[str, float]

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any = None, y: ArrayLike | None = None) -> Self:
        """Solve the equation.

        Parameters
        ----------
        X : domain, sampler or array of shape (n, d), optional
            Where the residual is asked, in place of ``domain``; with y, points of
            observations (n, d).
        y : array-like of shape (n,) or (n, n_outputs), optional
            Observed values of the solution at X, assimilated by one more loss, "data".

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For invalid parameters, domains, residuals or conditions, before training
            starts; the solver then stays as it was.
        """
        with self._state_kept_on_error():
            self._check_parameters()
            conditions = check_conditions(self.conditions, self.ansatz is not None or y is not None)
            problem = read_problem(self, X, y, conditions)
            seeds = draw_seeds(self.random_state, 3)
            self._start(problem, conditions, seeds[0])
            counts = {place: getattr(self, f"n_{place}") for place in Condition.places}
            collocation = self._collocation(counts, seeds[1])
            batch = collocation.draw()
            check_physics(self._physics, batch, self.loss_weights)
            if self.lm_iter:
                check_least_squares(self._physics, batch)
            self._solve(collocation, seeds[2])
            self._record()
        return self

    def _check_parameters(self) -> None:
        check_widths("hidden_layer_sizes", self.hidden_layer_sizes)
        super()._check_parameters()
        check_settings(self)

    def _start(self, problem: Problem, conditions: dict[str, Any], seed: int) -> None:
        """Make the net; with warm_start, from the weights and constants of the last fit."""
        sizes = [problem.domain.dim, *map(int, self.hidden_layer_sizes), self.n_outputs]
        trained: dict[str, Tensor] = {}
        if self.warm_start and self.__sklearn_is_fitted__():
            self._check_same_network(layer_sizes=(self._network["layer_sizes"], sizes))
            trained = dict(self._physics.named_parameters())
        self._problem = problem
        self.n_features_in_, self.domain_ = problem.domain.dim, problem.domain
        trial = {
            "input_shift": torch.as_tensor(problem.bounds.mean(1)),
            "input_scale": torch.as_tensor(problem.input_scale(self._method)),
            "ansatz": self.ansatz,
            "variables": problem.variables,
            "time": problem.has_time,
            "derivatives": self.derivatives,
            "n_directions": self.n_directions,
        }
        self._physics_settings = {
            "trial": trial,
            "residual": self.residual,
            "conditions": conditions,
            "pde_params": dict(self.pde_params or {}),
            "causal": problem.causal(self.causal),
        }
        shape = {"layer_sizes": sizes, "knots": (-1.0, 1.0)}
        self._build(shape, self._choose_execution(np.dtype(np.float32)), seed)
        for name, parameter in self._physics.named_parameters():
            if name in trained:
                parameter.data.copy_(trained[name].detach())
        if problem.values is not None:
            values = torch.tensor(problem.values, dtype=self._execution.dtype)
            self._physics.target = values.to(self._execution.device)

    def _make_net(self, network: dict[str, Any], training: dict[str, Any]) -> PDENet:
        net = super()._make_net(network | self._physics_settings, training)
        assert isinstance(net, PDENet)
        return net

    def _training_settings(self, solver: str) -> dict[str, Any]:
        settings = super()._training_settings(solver)
        settings.pop("penalty", None)  # weight decay is AdamW's alone here
        if "optimizer__param_groups" in settings:
            settings["optimizer__param_groups"].append(("pde_params.*", {"weight_decay": 0.0}))
        more = {"loss_weights": self.loss_weights or {}, "working_memory": self.working_memory}
        return settings | more

    def _solver_settings(self, solver: str) -> dict[str, Any]:
        if solver == "lm":
            return {"optimizer": LevenbergMarquardt, "lr": 1.0}
        return super()._solver_settings(solver)

    def _make_criterion(self) -> nn.Module:
        return nn.Identity()  # Physics gives the losses itself

    def _choose_execution(self, data_dtype: np.dtype) -> Execution:
        precision = self.precision
        if precision == "auto":
            precision = "float64" if self.lbfgs_iter or self.lm_iter else "float32"
        return choose_execution(self.device, precision, data_dtype, self.solver)

    def _collocation(self, counts: Mapping[str, int], seed: int) -> Collocation:
        return Collocation(
            self._problem,
            self._physics.conditions,
            counts,
            sampling=self.sampling,
            generator=torch.Generator(self._execution.device).manual_seed(seed),
            dtype=self._points_dtype,
        )

    def _solve(self, collocation: Collocation, seed: int) -> None:
        """AdamW, L-BFGS on points that stay, Levenberg-Marquardt."""
        steps = STEPS if self.max_iter == "auto" else self.max_iter
        goes_well = True
        if steps:
            schedule = LearningRateSchedule(self.learning_rate_schedule, steps)
            goes_well = self._train_steps(collocation, steps, self.resample_every, schedule)
        for solver, count, every, report in (
            ("lbfgs", self.lbfgs_iter, None, REPORT),
            ("lm", self.lm_iter, self.resample_every, LM_REPORT),
        ):
            if count and goes_well:
                before = self.net_
                self._begin_again(seed, solver)
                self.net_.goes_on_from(before)
                goes_well = self._train_steps(collocation, count, every, report=report)

    def _train_steps(
        self,
        collocation: Collocation,
        steps: int,
        every: int | None,
        *callbacks: Any,
        report: int = REPORT,
    ) -> bool:
        """Whether training ended neither by an interrupt nor in numbers that are not finite."""
        counts = [report] * (steps // report) + [steps % report] * (steps % report > 0)
        net, monitor = self.net_, Monitor(None, 0.0, restore_best=False, expects_convergence=False)
        net.planned_steps_, net.truth = steps, self._truth()
        data = Steps(collocation, self._residual_size, counts, every)
        bar = [PDEProgress()] if self.verbose else []
        numbers = self.n_interior * self._physics.trial.network.widest_features
        self._run(data, None, [*callbacks, *bar, monitor], len(counts), numbers)
        net.truth = None
        return not (net.interrupted_ or monitor.broken_)

    def _residual_size(self, x: Tensor) -> Tensor:
        """|residual| at points, (n,), of several equations the sum."""
        with torch.no_grad(), self._physics.exact():
            sizes = [r.abs() for r in self._physics.residuals(x).values()]
        return torch.stack(sizes).sum(0)

    def _truth(self) -> Callable[[Physics], float] | None:
        """The relative error at fixed points."""
        if self.solution is None:
            return None
        points = self._points(self._test_points())
        known = torch.as_tensor(self.solution(points)).to(points)
        shape = (len(points),) if self.n_outputs == 1 else (len(points), self.n_outputs)
        if known.shape != shape:
            raise ValueError(
                f"solution must return the shape {shape} for x of shape {tuple(points.shape)}, "
                f"got {tuple(known.shape)}."
            )
        return partial(_relative_error, points, known)

    def _test_points(self) -> NDArray[Any]:
        domain, generator = self._problem.domain, torch.Generator().manual_seed(TEST_SEED)
        points = domain.sample(TEST_POINTS, generator, method=self._method, dtype=torch.float64)
        return points.numpy()

    @property
    def _method(self) -> str:
        """The law of the inside, for points that are not those of training."""
        return "radius" if self.sampling == "radius" else "uniform"

    @property
    def _points_dtype(self) -> torch.dtype:
        return self._problem.points_dtype(self._execution.dtype)

    def _points(self, array: NDArray[Any]) -> Tensor:
        """A copy: torch takes neither arrays that run backwards nor, silently, read-only ones."""
        points = torch.from_numpy(np.array(array, order="C"))
        return points.to(self._execution.device, self._points_dtype)

    def _record(self) -> None:
        """What fit leaves behind to look at."""
        history = self.net_.history
        steps = np.cumsum([row["steps"] for row in history], dtype=int)
        self.loss_terms_ = {"step": steps}
        for name in history[-1]["terms"] if history else ():
            self.loss_terms_[name] = np.array([row["terms"][name] for row in history])
        if history and "error" in history[-1]:
            self.loss_terms_["error"] = np.array([row["error"] for row in history])
        self.loss_curve_ = [row["train_loss"] for row in history]
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else nan
        self.n_iter_ = int(steps[-1]) if len(steps) else 0
        constants = self._physics.pde_params.items()
        self.pde_params_ = {name: float(value.detach()) for name, value in constants}

    @property
    def _physics(self) -> Physics:
        physics = self.net_.module_
        assert isinstance(physics, Physics)
        return physics

    @property
    def module_(self) -> TrialFunction:  # type: ignore[override]
        """The solution as a torch module, (n, d) -> (n,) or (n, k).

        It is part of ``net_.module_``, which has equation and conditions too, and gives losses.
        """
        return self._physics.trial

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The solution at points.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs) for systems

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If X has another shape, other names of columns or numbers that are not finite; so far
            outside the domain that there is no finite value.
        """
        return self._evaluated(X, 0, lambda x: self.module_(x))

    def predict_derivative(self, X: ArrayLike, wrt: Any = (0,)) -> NDArray[Any]:
        """A partial derivative of the solution, of order one to four, as ``predict``.

        Parameters
        ----------
        X : array-like of shape (n, d)
        wrt : int, str or tuple of such, default=(0,)
            Coordinates, by number or name: ``(0, 0)`` is the second derivative by the first.

        Raises
        ------
        NotFittedError, ValueError
            As ``predict``, and for what is no coordinate.
        """
        by = tuple(wrt) if isinstance(wrt, Iterable) and not isinstance(wrt, str) else (wrt,)
        return self._evaluated(X, 2 ** len(by), lambda x: self.module_.field(x).d(*by))

    def predict_residual(self, X: ArrayLike) -> NDArray[Any]:
        """The equation's residual at points (n, d), its Laplacian exact; raises as ``predict``.

        Returns
        -------
        ndarray of shape (n,), or (n, m) for m equations, in the order of ``residual``
        """
        check_is_fitted(self)

        def residual(x: Tensor) -> Tensor:
            found = [*self._physics.residuals(x).values()]
            return found[0] if len(found) == 1 else torch.stack(found, 1)

        with self._physics.exact():
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

        Raises
        ------
        NotFittedError, ValueError
            As ``predict``, and for y without X.
        """
        check_is_fitted(self)
        if y is not None:
            if X is None:
                raise ValueError("score with y needs X, the points where y is known.")
            return float(r2_score(y, self.predict(X)))
        squares = np.square(self.predict_residual(self._test_points() if X is None else X))
        total, physics = squares.mean(0).sum(), self._physics
        batch = self._collocation(dict.fromkeys(Condition.places, TEST_POINTS), TEST_SEED).draw()
        with torch.no_grad(), self._execution.active():
            for name in physics.conditions:
                total += float(physics.misfit(name, batch[name]).square().mean())
        return -float(np.sqrt(total))

    def _evaluated(
        self, X: Any, channels: int, quantity: Callable[[Tensor], Tensor]
    ) -> NDArray[Any]:
        """``quantity(points)`` in X's dtype, a chunk of rows at a time, without a graph.

        ``channels`` is how many derivatives travel with a row, for the size of the chunks.
        """
        check_is_fitted(self)
        check_working_memory(self)
        X = in_order(X, self._problem.variables)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        memory = (self.working_memory or DEFAULT_MEMORY) * 2**20
        network: Any = self.module_.network
        widest = max(layer.in_features for layer in network.kan_layers())
        rows = max(1, int(memory / (8 * _COPIES * (channels + 2) * widest)))
        chunks: dict[int, NDArray[Any]] = {}

        def compute(chunk: slice) -> None:
            found = quantity(self._points(X[chunk]))
            chunks[chunk.start] = found.double().cpu().numpy()

        with torch.no_grad(), self._execution.active():
            by_chunks(len(X), rows, compute)
        with np.errstate(over="ignore"):
            found = np.concatenate([chunks[start] for start in sorted(chunks)]).astype(X.dtype)
        self._check_finite(X, found)
        return found

    def _check_finite(self, X: NDArray[Any], found: NDArray[Any]) -> None:
        """Raise for points so far outside that the network has no value there."""
        bad = ~np.isfinite(found.reshape(len(X), -1)).all(1)
        if bad.any():
            low, high = self._problem.bounds.T
            bad &= ((low > X) | (high < X)).any(1)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"X must lie in the domain or near it: at {X[row].tolist()}, row {row}, the result "
                f"is no finite number of {str(self._execution.dtype).removeprefix('torch.')}."
            )


def _relative_error(points: Tensor, known: Tensor, physics: Physics) -> float:
    """``|u - known| / |known|``."""
    with torch.no_grad():
        found = physics.trial(points)
    return float((found - known).norm() / known.norm())
