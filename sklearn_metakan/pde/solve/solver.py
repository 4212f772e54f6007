"""How a PDE solver trains, and what it can then be asked."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from math import nan
from os import PathLike
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_metakan.nn import build_network
from sklearn_metakan.pde.physics.checks import check_conditions, check_physics
from sklearn_metakan.pde.physics.conditions import Condition
from sklearn_metakan.pde.physics.constants import Positive
from sklearn_metakan.pde.physics.hard import Exact, PeriodicFeatures
from sklearn_metakan.pde.physics.physics import DATA, Batch, Physics
from sklearn_metakan.pde.physics.trial import TrialFunction, check_degree
from sklearn_metakan.pde.solve.collocation import Collocation
from sklearn_metakan.pde.solve.determined import warn_if_undetermined
from sklearn_metakan.pde.solve.doubt import error_left
from sklearn_metakan.pde.solve.evaluate import evaluated, relative_error
from sklearn_metakan.pde.solve.held import Held, held
from sklearn_metakan.pde.solve.modes import Overlap, find_modes
from sklearn_metakan.pde.solve.net import PDENet, root
from sklearn_metakan.pde.solve.parameters import check_settings
from sklearn_metakan.pde.solve.problem import STORED, Problem, read_problem
from sklearn_metakan.pde.solve.sizes import (
    Sizes,
    doubtful,
    judged,
    measure,
    unsolved,
    warn_if_unsolved,
)
from sklearn_metakan.pde.solve.stages import (
    is_second_order,
    run_stages,
    stages,
)
from sklearn_metakan.pde.solve.weights import BY_POINT
from sklearn_metakan.pde.solve.windows import End, march
from sklearn_metakan.training import (
    PARTS,
    Checkpoints,
    Defaults,
    Execution,
    Trainer,
    check_unchanged,
    choose_execution,
    draw_apart,
    draw_seeds,
    get_params,
    getstate,
    open_checkpoints,
    refuse_misspelt,
    save,
    set_params,
    setstate,
)

LEAST_DEGREE = 3  # of splines by "auto": for equations of order two
TEST_POINTS, TEST_SEED = 2000, 0  # where a known solution is compared, and scores are taken
_OF_INPUTS = ("trial.input_shift", "trial.input_scale")  # follow the domain


class Begun(NamedTuple):
    """A fit before its training; the seed is that of points."""

    physics: Physics
    batch: Batch
    trainer: Trainer
    collocation: Collocation
    counts: Mapping[str, int]
    seed: int
    checkpoints: Checkpoints | None


@dataclass(eq=False, repr=False)
class PDESolver(BaseEstimator):
    """The base of the PDE solvers, with the parameters of both; not for use on its own."""

    residual: Callable[..., Any]
    _: KW_ONLY
    domain: Any = None
    boundary: Any = None
    conditions: Any = ()
    ansatz: Callable[..., Tensor] | None = None
    features: Callable[[Tensor], Tensor] | None = None
    hard: bool = False
    n_outputs: int = 1
    variables: Sequence[str] | None = None
    pde_params: dict[str, float | Positive] | None = None
    eigenvalue: str | None = None
    n_modes: int = 1
    solution: Callable[..., Any] | None = None
    derivatives: str = "exact"
    n_directions: int = 4
    n_interior: int = 1000
    n_boundary: int = 200
    n_initial: int = 200
    n_observations: int | None = None
    sampling: str = "uniform"
    resample_every: int | None = 1
    loss_weights: dict[str, float] | str | None = "auto"
    causal: float | None = None
    windows: int = 1
    outside: str = "warn"
    hidden_layer_sizes: int | Sequence[int] = (32, 32)
    grid_size: int = 5
    solver: str | None = "auto"
    learning_rate: float | str = "auto"
    max_iter: int | str = "auto"
    lbfgs_iter: int = 0
    ssbfgs_iter: int = 0
    ssbroyden_iter: int = 0
    lm_iter: int = 0
    tol: float = 0.0
    time_limit: float | None = None
    weight_decay: float | str = "auto"
    basis: str = "bspline"
    degree: int | str = "auto"
    learning_rate_schedule: str = "onecycle"
    warm_start: bool = False
    device: str | torch.device = "auto"
    precision: str = "auto"
    working_memory: float | None = None
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0
    callbacks: Sequence[Any] | None = None
    checkpoint_dir: str | PathLike[str] | None = None
    checkpoint_every: tuple[int, float] = (1, 60.0)
    net_params: dict[str, Any] | None = None

    _make_network: ClassVar[Callable[..., nn.Module]] = staticmethod(build_network)
    _net_type = PDENet
    _defaults: ClassVar[Defaults] = Defaults(
        learning_rate=0.01, prompt_learning_rate=0.1, weight_decay=0.0
    )

    net_: Any = field(init=False)  # PDENet, over Physics
    _network: dict[str, Any] = field(init=False)
    _sizes: Sizes = field(init=False)
    loss_terms_: dict[str, NDArray[np.float64]] = field(init=False)
    history_: dict[str, NDArray[np.float64]] = field(init=False)
    pde_params_: dict[str, float] = field(init=False)

    __new__ = refuse_misspelt
    get_params, set_params = get_params, set_params
    __getstate__, __setstate__, save = getstate, setstate, save

    # In files: classes of objects; parameters that may be functions; where the network is.
    _stored_types: ClassVar[tuple[type, ...]] = (
        *STORED,
        *(Sizes, Exact, PeriodicFeatures, End, Overlap),
    )
    _given_again: ClassVar[tuple[str, ...]] = (
        "residual",
        "domain",
        "boundary",
        "conditions",
        "ansatz",
        "features",
        "solution",
    )
    _of_network: ClassVar[str] = "trial.network."

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any = None,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        resume: bool = False,
    ) -> Self:
        """Solve the equation.

        Parameters
        ----------
        X : domain, sampler or array of shape (n, d), optional
            Where the residual is asked, in place of ``domain``; with y, points of
            observations (n, d).
        y : array-like of shape (n,) or (n, n_outputs), optional
            Observed values of the solution at X, assimilated by one more loss, "data"; of several
            outputs NaN where one was not observed.
        sample_weight : array-like of shape (n,), optional
            Of observations, in their mean square.
        resume : bool, default=False
            Whether to go on from the newest checkpoint in ``checkpoint_dir``, where there is
            one, to the weights of a fit that was never interrupted: on a CPU to the last bit.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For invalid parameters, domains, residuals or conditions, before training
            starts; the solver then stays as it was.
        """
        with torch.inference_mode(False):
            data = any(given is not None for given in (X, y, sample_weight))
            if self.eigenvalue is not None:
                self.__dict__ = find_modes(self, data, resume)
                return self
            if self.windows > 1:
                self.__dict__ = march(self, data, resume)
                return self
            fitted = object.__new__(type(self))  # if the fit fails, the solver stays as it was
            fitted.__dict__ = self.__dict__.copy()
            for name in PARTS:
                fitted.__dict__.pop(name, None)
            begun = fitted._begin(X, y, sample_weight, resume)
            plan = stages(self, begun.physics, begun.batch)
            if begun.checkpoints is not None:
                begun.checkpoints.check_start(begun.physics)
            draw_apart(begun.collocation.generator)
            run_stages(fitted, begun, plan)
            fitted._record()
            fitted._judge(begun.counts, begun.seed)
        self.__dict__ = fitted.__dict__  # at once: who predicts meanwhile has the earlier fit
        return self

    def _begin(self, X: Any, y: Any, sample_weight: Any, resume: bool) -> Begun:
        """Everything until training: parameters and problem are checked, the start is made."""
        trainer = self._trainer()
        checkpoints = open_checkpoints(self, resume)
        conditions = check_conditions(self.conditions, self.ansatz is not None or y is not None)
        problem = read_problem(self, X, y, sample_weight, conditions)
        parts = held(self, problem, conditions)
        seeds = draw_seeds(self.random_state, 2)
        if checkpoints is not None:
            facts = {"X": problem.bounds, "observations": problem.observed, "y": problem.values}
            seeds = checkpoints.begin(seeds, self, facts)
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        self._start(trainer, problem, parts, seeds[0], goes_on)
        counts = {place: getattr(self, f"n_{place}") for place in Condition.places}
        if self.n_observations is not None:
            counts[DATA] = self.n_observations
        collocation = self._collocation(counts, seeds[1])
        batch = collocation.draw()
        check_physics(self._physics, batch, self.loss_weights)
        self._condition(trainer, batch, seeds[0], goes_on)
        return Begun(self._physics, batch, trainer, collocation, counts, seeds[1], checkpoints)

    def _trainer(self) -> Trainer:
        """A trainer by the present parameters, which are checked."""
        parameters = self.get_params(deep=False) | {"extrapolation": "base", "solver": "adamw"}
        trainer = Trainer(parameters, self._defaults, net_type=PDENet)
        check_settings(self)
        return trainer

    def _start(
        self, trainer: Trainer, problem: Problem, parts: Held, seed: int, goes_on: bool
    ) -> None:
        """Make the physics and its net; to go on, from weights and constants of the last fit."""
        precision: Any = self.precision
        if precision == "auto":
            precision = "float64" if is_second_order(self) else "float32"
        execution = choose_execution(self.device, precision, np.dtype(np.float32), "adamw")
        shift, scale = problem.inputs(self._method, parts.features)
        sizes = [len(shift), *trainer.widths, self.n_outputs]
        if trainer.network["degree"] == "auto":
            trainer.network["degree"] = self._network["degree"] if goes_on else LEAST_DEGREE
        trained: dict[str, Tensor] = {}
        if goes_on:
            self._check_same_network(trainer, sizes)
            trained = self._physics.state_dict()
        self._problem = problem
        self.n_features_in_, self.domain_ = problem.domain.dim, problem.domain
        self._network = {
            "layer_sizes": sizes,
            "knots": (-1.0, 1.0),
            "dtype": execution.dtype,
            "working_memory": self.working_memory,
            **trainer.network,
            **trainer.options,
        }
        self._options = deepcopy(trainer.options)
        self._trial: dict[str, Any] = {
            "input_shift": shift,
            "input_scale": scale,
            "output_shift": torch.zeros(self.n_outputs),
            "output_scale": torch.ones(self.n_outputs),
            "ansatz": parts.ansatz,
            "affine": parts.affine,
            "features": parts.features,
            "variables": problem.variables,
            "time": problem.has_time,
            "n_parameters": problem.domain.n_parameters,
            "derivatives": self.derivatives,
            "n_directions": self.n_directions,
        }
        constants = dict(self.pde_params or {})
        attention = self.loss_weights if self.loss_weights in BY_POINT else None
        causal = problem.causal(self.causal)
        self._equation = self.residual, parts.left, constants, causal, attention
        self._make_net(trainer, execution, seed)
        wanted = self._physics.state_dict()
        kept = {k: v for k, v in trained.items() if k in wanted and not k.startswith(_OF_INPUTS)}
        self._physics.load_state_dict(wanted | kept)

    def _make_net(self, trainer: Trainer, execution: Execution, seed: int) -> None:
        def make() -> Physics:
            physics = self._make_physics(seed=seed)
            physics.observe(self._problem.values, self._problem.weights)
            return physics

        self.net_ = self._net(trainer, make, execution)

    def _condition(self, trainer: Trainer, batch: Batch, seed: int, goes_on: bool) -> None:
        """Fit the start to the problem: smoothness to its order, units to its sizes."""
        order = self._physics.order
        if not goes_on and order > LEAST_DEGREE - 1:
            requests = self._physics.requests
            if self.degree == "auto":
                self._network["degree"] = order + 2
            self._network.setdefault("init_order", order)
            self._make_net(trainer, self._execution, seed)
            self._physics.requests = requests
        check_degree(self._physics, order)
        known = vars(self).get("_sizes") if goes_on else None
        if known is None or known.smooth.keys() != {*self._physics(batch)}:
            self._sizes = measure(self._physics, batch, rescale=not goes_on)
        self.net_.loss_weights = self._weights

    def _check_same_network(self, trainer: Trainer, sizes: list[int]) -> None:
        pairs = {name: (self._network[name], now) for name, now in trainer.network.items()}
        pairs |= trainer.options_then_and_now(self._options, self.module_.network)
        check_unchanged(pairs | {"layer_sizes": (self._network["layer_sizes"], sizes)})

    def _make_physics(self, **more: Any) -> Physics:
        network = self._make_network(**self._network | more)
        return Physics(TrialFunction(network, **self._trial), *self._equation)

    def _net(
        self,
        trainer: Trainer,
        make: Callable[[], Physics],
        execution: Execution,
        **optimizer: Any,
    ) -> Any:
        """A net with a fresh optimiser, by default AdamW, over a physics that may have begun."""
        return trainer.net(
            make,
            nn.Identity(),  # Physics gives the losses itself
            execution,
            groups=(("pde_params.*", {"weight_decay": 0.0}),),
            loss_weights=self._weights,
            working_memory=self.working_memory,
            **optimizer,
        )

    @property
    def _weights(self) -> dict[str, float] | str:
        """Of the losses, or the name of a rule."""
        if self.loss_weights in ("auto", *BY_POINT):
            return self._sizes.weights() if hasattr(self, "_sizes") else {}
        return self.loss_weights or {}

    def _judge(self, counts: Mapping[str, int], seed: int) -> None:
        """Warn where nothing was solved."""
        if not self.net_.interrupted_ and np.isfinite(self.loss_):
            fresh = {**counts, "interior": max(counts["interior"], judged(self._physics))}
            batch = self._collocation(fresh, seed + 1).draw()
            with torch.no_grad(), self._execution.active():
                u = self.module_.columns(self._points(self._test_points()))
                reasons = unsolved(self._physics, batch, self._sizes, u)
            reasons = reasons or doubtful(error_left(self, seed))
            warn_if_unsolved(reasons)
            if not reasons:
                warn_if_undetermined(self, seed)

    def _collocation(self, counts: Mapping[str, int], seed: int) -> Collocation:
        return Collocation(
            self._problem,
            self._physics.conditions,
            counts,
            sampling=self.sampling,
            generator=torch.Generator(self._execution.device).manual_seed(seed),
            dtype=self._points_dtype,
        )

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
        return partial(relative_error, points, known)

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
        self.history_ = {
            name: found if name in ("step", "error") else root(found)
            for name, found in self.loss_terms_.items()
        }
        names = [*(history[-1]["terms"] if history else ())]
        self.loss_weights_ = {name: self.net_.factor(name) for name in names}
        self.loss_curve_ = [row["train_loss"] for row in history]
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else nan
        self.n_iter_ = int(steps[-1]) if len(steps) else 0
        constants = self._physics.pde_params.constants().items()
        self.pde_params_ = {name: float(value.detach()) for name, value in constants}

    @property
    def _physics(self) -> Physics:
        check_is_fitted(self)
        return self.net_.module_

    @property
    def _execution(self) -> Execution:
        return self.net_.execution_

    @property
    def module_(self) -> TrialFunction:
        """The solution as a torch module, (n, d) -> (n,) or (n, k).

        It is part of ``net_.module_``, which has equation and conditions too, and gives losses.
        """
        return self._physics.trial

    @property
    def n_parameters_(self) -> int:
        """Trainable numbers of the network, or of those of all parts of time."""
        modules = [solver.module_ for solver in self._solvers]
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

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
        return self._evaluated(X, 0, lambda solver, x: solver.module_(x))

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
        return self._evaluated(X, 2 ** len(by), lambda solver, x: solver.module_.field(x).d(*by))

    def predict_residual(self, X: ArrayLike) -> NDArray[Any]:
        """The equation's residual at points X (n, d), its Laplacian exact; raises as ``predict``.

        Returns
        -------
        ndarray of shape (n,), or (n, m) for m equations, in the order of ``residual``
        """

        def residual(solver: Self, x: Tensor) -> Tensor:
            with solver._physics.exact():
                found = [*solver._physics.residuals(x).values()]
            return found[0] if len(found) == 1 else torch.stack(found, 1)

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
        solvers = self._solvers
        if X is None:
            X = np.concatenate([solver._test_points() for solver in solvers])
        total = np.square(self.predict_residual(X)).mean(0).sum()
        total += np.mean([solver._misfit_of_conditions() for solver in solvers])
        return -float(np.sqrt(total))

    def _misfit_of_conditions(self) -> float:
        """The sum of their mean squares."""
        total, physics = 0.0, self._physics
        batch = self._collocation(dict.fromkeys(Condition.places, TEST_POINTS), TEST_SEED).draw()
        with torch.no_grad(), self._execution.active():
            for name in physics.conditions:
                total += float(physics.squared(name, physics.misfit(name, batch[name])))
        return total

    def _evaluated(
        self, X: Any, channels: int, quantity: Callable[[Any, Tensor], Tensor]
    ) -> NDArray[Any]:
        return evaluated(self, X, channels, quantity)

    @property
    def _solvers(self) -> list[Any]:
        """Those of the parts of time, or of the modes, or itself."""
        return next((vars(self)[name] for name in PARTS if name in vars(self)), [self])

    def __sklearn_is_fitted__(self) -> bool:
        return "net_" in vars(self)

    def _unpacked_module(self) -> Physics:
        return self._make_physics(init=None)

    def _try_out(self) -> None:
        """Evaluate a point, of a loaded solver; parts that contradict each other raise."""
        self._problem.points_dtype(self._execution.dtype)
        with torch.no_grad():
            self.module_(self._points(self._problem.bounds.mean(1)[None]))
