"""What all estimators share: settings, network, training run, net_params, persistence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_metakan.nn import KANNetwork, build_network, refine
from sklearn_metakan.training import _solvers
from sklearn_metakan.training._callbacks import Monitor, Progress, check_callbacks, copies_of
from sklearn_metakan.training._data import TensorData
from sklearn_metakan.training._execution import Execution, choose_execution, threads_for
from sklearn_metakan.training._going_on import check_unchanged, module_options
from sklearn_metakan.training._net import KANNet, Score
from sklearn_metakan.training._net_params import check_net_params, check_param_groups
from sklearn_metakan.training._net_pickle import packed_net, unpack_into
from sklearn_metakan.training._schedules import LearningRateSchedule
from sklearn_metakan.training._undo import attributes_kept_on_error, kept_on_error
from sklearn_metakan.training.spelling import suggest

LBFGS_LEARNING_RATE, LBFGS_WEIGHT_DECAY = 1.0, 1e-7
LBFGS_ITERATIONS = 200
STEPS = 3000  # what max_iter="auto" means for AdamW, within bounds on the passes
# What a net is made for; if it changes, training that goes on needs a new net.
_TRAINING = {"solver", "learning_rate", "prompt_learning_rate", "meta_learning_rate", "loss"}
_TRAINING |= {"weight_decay", "dropout", "augment", "grid_size", "quantile", "device"}
_TRAINING |= {"precision", "working_memory", "net_params"}


class BaseKANEstimator(BaseEstimator):
    """Holds a skorch net (``net_``) and knows how to build, train, store and restore it.

    Subclasses validate and scale data, and call ``_build`` and ``_train``. Constructor
    parameters are those of DESIGN section 4; this class reads them, never changes them.
    """

    _is_meta: ClassVar[bool] = False
    _net_type: ClassVar[type[KANNet]] = KANNet
    _make_module: ClassVar[Callable[..., nn.Module]] = staticmethod(build_network)
    _of_training: ClassVar[set[str]] = {"dropout"}  # settings that may change as training goes on
    adamw_learning_rate: ClassVar[float] = 0.02
    # Of linear meta-learners; None: that of all else.
    adamw_prompt_learning_rate: ClassVar[float | None] = None
    adamw_weight_decay: ClassVar[float] = 0.01
    adamw_passes: ClassVar[tuple[int, int]] = (20, 200)  # the bounds of max_iter="auto"

    net_params: dict[str, Any] | None
    net_: KANNet
    loss_curve_: list[float]
    cuda_graph_: bool
    callbacks_: list[Any]

    # --- parameters -------------------------------------------------------------------

    def __new__(cls, *arguments: Any, **parameters: Any) -> Self:
        """Raise TypeError for a parameter that the constructor does not know."""
        known = signature(cls.__init__).parameters
        anything = any(each.kind is each.VAR_KEYWORD for each in known.values())
        for name in parameters.keys() - known.keys() if not anything else ():
            raise TypeError(f"{cls.__name__} has no parameter {name!r}.{suggest(name, known)}")
        return super().__new__(cls)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        params = super().get_params(deep=deep)
        if deep and isinstance(params.get("net_params"), dict):
            params |= {f"net__{key}": value for key, value in params["net_params"].items()}
        return params

    def set_params(self, **params: Any) -> "BaseKANEstimator":
        added = {k.removeprefix("net__"): v for k, v in params.items() if k.startswith("net__")}
        own = {k: v for k, v in params.items() if not k.startswith("net__")}
        known = self.get_params(deep=False)
        for name in [name for name in own if name.partition("__")[0] not in known]:
            raise ValueError(
                f"Invalid parameter {name!r} for estimator {type(self).__name__}."
                f"{suggest(name, known)} Valid parameters are: {[*known]}."
            )
        super().set_params(**own)
        if added:
            self.net_params = (self.net_params or {}) | added
        return self

    def _network_settings(self) -> dict[str, Any]:
        """Settings of the network that do not depend on the data."""
        settings = {
            "basis": self.basis,
            "grid_size": self.grid_size,
            "degree": self.degree,
            "extrapolation": self.extrapolation,
            "dropout": self.dropout,
        }
        if self._is_meta:
            settings |= {
                "n_meta_learners": self.n_meta_learners,
                "prompt_dim": self.prompt_dim,
                "meta_hidden_dim": self.meta_hidden_dim,
                "meta_activation": self.meta_activation,
                "edge_scale": self.edge_scale,
            }
        return settings

    def _module_params(self) -> dict[str, Any]:
        """More settings of the network, those in net_params."""
        return {
            key.removeprefix("module__"): value
            for key, value in (self.net_params or {}).items()
            if key.startswith("module__")
        }

    def _check_parameters(self) -> None:
        """Validate types and ranges, then what no single range can say."""
        rate = self.learning_rate
        if isinstance(rate, str) and rate != "auto":
            raise ValueError(
                f"learning_rate must be a positive number or 'auto', got {rate!r}. A schedule "
                "is chosen with learning_rate_schedule."
            )
        self._validate_params()
        check_callbacks(self.callbacks or [])
        if self.solver == "lbfgs" and self.dropout:
            raise ValueError(
                f"dropout={self.dropout} contradicts solver='lbfgs', whose line search needs a "
                "loss that repeats. Set dropout=0 or solver='adamw'."
            )
        for name in ("prompt_learning_rate", "meta_learning_rate") if self._is_meta else ():
            if self.solver == "lbfgs" and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}={getattr(self, name)} contradicts solver='lbfgs', which has one "
                    f"learning rate for all. Set {name}=None or solver='adamw'."
                )
        if self.knots == "quantile" and self.basis != "bspline":
            raise ValueError(
                f"knots='quantile' contradicts basis={self.basis!r}: only splines have knots of "
                "their own. Set knots='uniform'; scale_inputs='quantile' has a like effect."
            )
        if self._is_meta and self.edge_scale and self.meta_hidden_dim == 0:
            raise ValueError(
                "edge_scale=True contradicts meta_hidden_dim=0: a linear meta-learner scales "
                "with its prompts already. Set edge_scale=False or meta_hidden_dim > 0."
            )
        check_net_params(self.net_params, self._network_settings() | {"knots": None})

    # --- building and training --------------------------------------------------------

    def _choose_execution(self, data_dtype: np.dtype) -> Execution:
        return choose_execution(self.device, self.precision, data_dtype, self.solver)

    def _solver_settings(self, solver: str) -> dict[str, Any]:
        lbfgs = solver == "lbfgs"
        rate, decay = self.learning_rate, self.weight_decay
        if rate == "auto":
            rate = LBFGS_LEARNING_RATE if lbfgs else self.adamw_learning_rate
        if decay == "auto":
            decay = LBFGS_WEIGHT_DECAY if lbfgs else self.adamw_weight_decay
        if lbfgs:
            return _solvers.lbfgs_settings(rate) | {"penalty": decay}
        rates = {}
        if self._is_meta:
            of_prompts = self.prompt_learning_rate
            if of_prompts is None and self.learning_rate == "auto" and not self.meta_hidden_dim:
                of_prompts = self.adamw_prompt_learning_rate
            rates = {
                "prompt_learning_rate": of_prompts,
                "meta_learning_rate": self.meta_learning_rate,
            }
        return _solvers.adamw_settings(rate, decay, **rates)

    def _build(self, shape: dict[str, Any], execution: Execution, seed: int) -> None:
        """Make ``net_`` with freshly started parameters; ``shape`` has what follows from data."""
        settings = shape | {"dtype": execution.dtype, "working_memory": self.working_memory}
        self._module_settings = deepcopy(self._module_params())
        self._network = settings | self._network_settings() | self._module_settings
        self._execution = execution
        self._begin(self._network | {"seed": seed}, self.solver)

    def _rebuild(self, execution: Execution, seed: int) -> None:
        """A new net for the same function: present settings, fresh optimiser."""
        network = self._on_present_grid()
        present = {name: getattr(self, name) for name in self._of_training}
        if np.shape(self._network["knots"])[-1] > 2:  # all knots, not only the ends
            first, *_ = network.kan_layers()
            present["knots"] = first.basis.knots.double().cpu().numpy()
        self._network = self._network | {
            **present,
            "dtype": execution.dtype,
            "working_memory": self.working_memory,
            "backend": self._module_params().get("backend", "auto"),
        }
        self._execution = execution
        self._begin_again(seed, self.solver, network)

    def _on_present_grid(self) -> KANNetwork:
        """The network, refined if grid_size has grown."""
        if self.grid_size == self._network["grid_size"]:
            return self.module_
        try:
            return refine(self.module_, int(self.grid_size))
        except ValueError as error:
            raise ValueError(f"{error} Or call fit with warm_start=False.") from error

    def _begin_again(self, seed: int, solver: str, module: nn.Module | None = None) -> None:
        """A new net with the parameters of this module, by default its own, for this solver."""
        module, history = module or self.net_.module_, self.net_.history
        state = module.state_dict()
        self._begin(self._network | {"init": None, "seed": seed}, solver)
        self.net_.module_.load_state_dict(state)
        self.net_.history.extend(history)

    def _begin(self, network: dict[str, Any], solver: str) -> None:
        """Make ``net_`` to be trained with the present settings."""
        try:
            self.net_ = self._make_net(network, self._training_settings(solver))
        except (TypeError, ValueError) as error:
            if not self.net_params:
                raise
            raise ValueError(f"{error} (with net_params={self.net_params!r})") from error
        names = [name for name, _ in self.net_.module_.named_parameters()]
        check_param_groups(self.net_params or {}, names)
        self.net_.asked_ = self._asked()

    def _asked(self) -> dict[str, Any]:
        return {k: v for k, v in self.get_params(deep=False).items() if k in _TRAINING}

    def _check_same_network(self, **more: tuple[Any, Any]) -> None:
        """Training that goes on: parameters that shape the network must not have changed.

        ``more`` has those of subclasses: their values then and now.
        """
        settings = self._network_settings().items()
        pairs = {
            name: (self._network[name], value)
            for name, value in settings
            if name not in self._of_training
        }
        options = self._module_settings, self._module_params()
        check_unchanged(pairs | module_options(self.net_.module_, *options) | more)

    def _training_settings(self, solver: str) -> dict[str, Any]:
        user = {k: v for k, v in (self.net_params or {}).items() if not k.startswith("module__")}
        of_solver, groups = self._solver_settings(solver), "optimizer__param_groups"
        settings = {"criterion": self._make_criterion()} | of_solver | deepcopy(user)
        if groups in user:  # the user's come first, and a parameter joins the first that fits
            settings[groups] = [*settings[groups], *of_solver.get(groups, [])]
        return settings

    def _make_criterion(self) -> nn.Module:
        """The loss by row."""
        raise NotImplementedError

    def _make_net(self, network: dict[str, Any], training: dict[str, Any]) -> KANNet:
        settings = {f"module__{name}": value for name, value in network.items()} | training
        for name, value in settings.items():
            settings[name] = value.item() if isinstance(value, np.generic) else value
        net = self._net_type(
            self._make_module, device=self._execution.device, verbose=0, **settings
        )
        net.initialize()
        net.module_.eval()
        return net

    def _count_iterations(self, batches: int) -> int:
        """Passes over the data; what ``max_iter="auto"`` means for so many batches a pass."""
        if self.max_iter != "auto":
            return int(self.max_iter)
        if self.solver == "lbfgs":
            return LBFGS_ITERATIONS
        fewest, most = self.adamw_passes
        return min(most, max(fewest, -(-STEPS // batches)))

    def _train(
        self,
        data: TensorData,
        validation: TensorData | None = None,
        *,
        score: Score | None = None,
        max_iter: int | None = None,
        monitor: Monitor | None = None,
        seed: int = 0,
    ) -> None:
        """Train ``net_``; without ``max_iter``, a whole run with schedule and monitor."""
        net = self.net_
        batch_size = len(data) if self.solver == "lbfgs" else min(int(self.batch_size), len(data))
        callbacks: list[Any] = []
        if max_iter is None:
            batches = -(-len(data) // batch_size)
            max_iter = self._count_iterations(batches)
            total_steps = max_iter * batches
            if self.solver == "adamw":
                callbacks.append(LearningRateSchedule(self.learning_rate_schedule, total_steps))
        if self.verbose:
            callbacks.append(Progress())
        if monitor is not None:  # the last one, since it ends training
            callbacks.append(monitor)
        net.batch_size, net.shuffle_seed, net.score = batch_size, seed, score
        numbers = batch_size * self.module_.widest_features
        self._run(data, validation, callbacks, max_iter, numbers)

    def _run(
        self, data: Any, validation: Any, callbacks: list[Any], epochs: int, numbers: int
    ) -> None:
        """So many epochs, whose steps handle so many numbers; the user's callbacks come first."""
        net, (own, copies) = self.net_, copies_of(self.callbacks or [])
        net.callbacks = [*own, *callbacks]
        net.max_epochs = epochs
        threads = threads_for(self._execution.device, numbers)
        try:
            with kept_on_error(net), self._execution.active(), threads:
                net.initialize_callbacks()
                net.fit_on(data, validation)
            self.cuda_graph_, self.callbacks_ = net.replayed_, copies
        finally:
            net.module_.eval()
            net.callbacks, net.callbacks_, net.validation_ = [], [], None

    # --- what was fitted --------------------------------------------------------------

    @property
    def module_(self) -> KANNetwork:
        """The plain torch module: scaled inputs in, raw outputs out."""
        check_is_fitted(self)
        return self.net_.module_

    @property
    def n_parameters_(self) -> int:
        """Trainable numbers of the network."""
        return sum(parameter.numel() for parameter in self.module_.parameters())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    # --- state ------------------------------------------------------------------------

    @contextmanager
    def _state_kept_on_error(self) -> Iterator[None]:
        """Around a fit: one that fails changes nothing, and torch's inference mode is off."""
        with attributes_kept_on_error(self), torch.inference_mode(False):
            yield

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("callbacks_", None)  # they may hold anything, such as the data
        if "net_" in state:
            state["_net_state"] = packed_net(state.pop("net_"))
            state["_execution"] = self._execution.packed()
            state["_network"] = self._network | {"dtype": str(self._execution.dtype)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        net_state = state.pop("_net_state", None)
        if net_state is not None:
            state["_execution"] = Execution.unpacked(state["_execution"])
            state["_network"] = state["_network"] | {"dtype": state["_execution"].dtype}
        super().__setstate__(state)
        if net_state is not None:
            # Good for predictions; training again makes a new net first (see _asked).
            self.net_ = self._make_net(self._network | {"init": None}, {"criterion": nn.MSELoss})
            unpack_into(self.net_, net_state)
