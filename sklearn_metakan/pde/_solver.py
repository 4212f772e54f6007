"""How a PDE solver trains: read the problem, build, try out, then AdamW and L-BFGS."""

from math import nan
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from torch import Tensor, nn

from sklearn_metakan.pde._checks import check_conditions, check_least_squares, check_physics
from sklearn_metakan.pde._collocation import Collocation, Counts, Steps
from sklearn_metakan.pde._evaluate import RelativeError, plain_tensor
from sklearn_metakan.pde._levenberg_marquardt import LevenbergMarquardt
from sklearn_metakan.pde._net import REPORT, PDENet, PDEProgress
from sklearn_metakan.pde._parameters import SOLVER_CONSTRAINTS, check_settings
from sklearn_metakan.pde._physics import Physics, build_physics
from sklearn_metakan.pde._reading import Problem, read_problem
from sklearn_metakan.training import (
    BaseKANEstimator,
    Execution,
    LearningRateSchedule,
    Monitor,
    check_widths,
    choose_execution,
    draw_seeds,
)

STEPS = 5000  # what max_iter="auto" means
LM_REPORT = 10  # steps of Levenberg-Marquardt between two readings of the losses
TEST_POINTS, TEST_SEED = 2000, 0  # where a known solution is compared, and scores are taken


class TrainedSolver(BaseKANEstimator):
    """The training half of the PDE solvers; not for use on its own.

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
            collocation = self._collocation(problem, seeds[1])
            batch = collocation.draw()
            check_physics(self._physics, batch, self.loss_weights)
            if self.lm_iter:
                check_least_squares(self._physics, batch)
            self._solve(collocation, seeds[2])
        return self

    def _check_parameters(self) -> None:
        check_widths("hidden_layer_sizes", self.hidden_layer_sizes)
        super()._check_parameters()
        check_settings(self)

    def _start(self, problem: Problem, conditions: dict[str, Any], seed: int) -> None:
        """Make the net; with warm_start, from the weights and constants of the last fit."""
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        sizes = [problem.domain.dim, *map(int, self.hidden_layer_sizes), self.n_outputs]
        trained: dict[str, Tensor] = {}
        if goes_on:
            self._check_same_network(layer_sizes=(self._network["layer_sizes"], sizes))
            trained = dict(self._physics.named_parameters())
        self._problem = problem
        self.n_features_in_, self.domain_ = problem.domain.dim, problem.domain
        self._physics_settings = self._describe(problem, conditions)
        shape = {"layer_sizes": sizes, "knots": (-1.0, 1.0)}
        self._build(shape, self._choose_execution(np.dtype(np.float32)), seed)
        for name, parameter in self._physics.named_parameters():
            if name in trained:
                parameter.data.copy_(trained[name].detach())
        if problem.values is not None:
            self._physics.target = self._tensor(problem.values)

    def _describe(self, problem: Problem, conditions: dict[str, Any]) -> dict[str, Any]:
        """Settings of ``build_physics`` beside the network's."""
        low, high = problem.bounds.T
        trial = {
            "input_shift": torch.as_tensor((low + high) / 2),
            "input_scale": torch.as_tensor(problem.reach(self._method)),
            "ansatz": self.ansatz,
            "variables": problem.variables,
            "time": problem.has_time,
            "derivatives": self.derivatives,
            "n_directions": self.n_directions,
        }
        return {
            "trial": trial,
            "residual": self.residual,
            "conditions": conditions,
            "pde_params": dict(self.pde_params or {}),
            "causal": problem.causal(self.causal),
        }

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

    def _collocation(self, problem: Problem, seed: int) -> Collocation:
        execution = self._execution
        return Collocation(
            problem,
            self._physics.conditions,
            Counts(self.n_interior, self.n_boundary, self.n_initial),
            sampling=self.sampling,
            generator=torch.Generator(execution.device).manual_seed(seed),
            dtype=execution.dtype,
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
        self._record()

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

    def _truth(self) -> RelativeError | None:
        if self.solution is None:
            return None
        points = self._tensor(self._test_points())
        known = torch.as_tensor(self.solution(points)).to(points)
        shape = (len(points),) if self.n_outputs == 1 else (len(points), self.n_outputs)
        if known.shape != shape:
            raise ValueError(
                f"solution must return the shape {shape} for x of shape {tuple(points.shape)}, "
                f"got {tuple(known.shape)}."
            )
        return RelativeError(points, known)

    def _test_points(self) -> NDArray[Any]:
        domain, generator = self._problem.domain, torch.Generator().manual_seed(TEST_SEED)
        points = domain.sample(TEST_POINTS, generator, method=self._method, dtype=torch.float64)
        return points.numpy()

    @property
    def _method(self) -> str:
        """The law of the inside, for points that are not those of training."""
        return "radius" if self.sampling == "radius" else "uniform"

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return plain_tensor(array).to(self._execution.device, self._execution.dtype)

    def _record(self) -> None:
        """What fit leaves behind to look at."""
        history, terms = self.net_.history, {}
        for name in history[-1]["terms"] if history else ():
            terms[name] = np.array([row["terms"][name] for row in history])
        if history and "error" in history[-1]:
            terms["error"] = np.array([row["error"] for row in history])
        steps = np.cumsum([row["steps"] for row in history], dtype=int)
        self.loss_terms_ = {"step": steps, **terms}
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
