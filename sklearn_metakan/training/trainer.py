"""The training run: what the parameters of an estimator mean for optimiser, schedule and end."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from inspect import signature
from math import nan
from numbers import Integral, Real
from time import perf_counter
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import nn

from sklearn_metakan.training.callbacks import (
    LearningRateSchedule,
    Listeners,
    Monitor,
    Progress,
    TimeLimit,
    check_callbacks,
    own_copies,
)
from sklearn_metakan.training.capture import check_cuda_graph
from sklearn_metakan.training.checkpoints import Checkpoints
from sklearn_metakan.training.data import TensorData
from sklearn_metakan.training.execution import (
    FORKED,
    LARGE_TABLE,
    Execution,
    choose_execution,
    take_one_thread,
)
from sklearn_metakan.training.net import NET_PARAMETERS, KANNet, Score
from sklearn_metakan.training.optimisers import LBFGS, AdamW
from sklearn_metakan.training.parallel import PRESENT
from sklearn_metakan.training.parameters import (
    check_net_params,
    check_param_groups,
    module_options,
)
from sklearn_metakan.training.reml import Reml

LBFGS_LEARNING_RATE, LBFGS_WEIGHT_DECAY = 1.0, 1e-7
LBFGS_ITERATIONS = 200
PATIENCE = 20  # what n_iter_no_change="auto" means
LARGEST_WIDTH = 1_000_000

PROMPTS = ("*.prompts", "*.edge_scale", "*.levels.*")
META_LEARNERS = ("*.meta_learner.*",)

# What a net is made for; if it changes, training that goes on needs a new net.
_TRAINING = {"solver", "learning_rate", "prompt_learning_rate", "meta_learning_rate", "loss"}
_TRAINING |= {"weight_decay", "sparsity", "dropout", "augment", "grid_size", "quantile", "device"}
_TRAINING |= {"precision", "working_memory", "net_params"}

STEPS_A_PASS = 16  # at most, of small tables

# What "reml" leaves as it is.
_FREE = {"weight_decay": "auto", "sparsity": 0.0, "early_stopping": False}

# What the network is made of, beside its shape.
_NETWORK = ("basis", "grid_size", "degree", "extrapolation", "dropout")
_META = ("n_meta_learners", "prompt_dim", "meta_hidden_dim", "meta_activation", "edge_scale")


class Defaults(NamedTuple):
    """What "auto" means for AdamW, as measured for a kind of estimator.

    ``prompt_learning_rate`` is that of linear meta-learners (None: that of all else);
    ``max_iter="auto"`` is as many passes as make so many ``steps``, within bounds on ``passes``;
    ``batch_size="auto"`` a power of two of rows that makes 16 steps a pass at most, within bounds;
    ``large`` is what holds beyond ``LARGE_TABLE`` rows (None: the same). ``widths`` are of the
    hidden layers.
    """

    widths: tuple[int, ...] = (32, 32)
    learning_rate: float = 0.02
    prompt_learning_rate: float | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    steps: int = 3000
    passes: tuple[int, int] = (20, 200)
    batch: tuple[int, int] = (256, 256)
    large: "Defaults | None" = None

    def of(self, n_rows: int) -> "Defaults":
        """Those for a table of so many rows."""
        return self.large if self.large is not None and n_rows > LARGE_TABLE else self


class Found(NamedTuple):
    """What a training run found, beside the net's weights.

    ``broken``: it ended in numbers that are not finite; ``interrupted``: by the user.
    """

    loss_curve: list[float]
    validation_scores: list[float] | None
    best_validation_score: float | None
    callbacks: list[Any]
    replayed: bool
    broken: bool
    interrupted: bool

    @property
    def loss(self) -> float:
        """Of the last iteration; NaN after an interrupt in the first."""
        return self.loss_curve[-1] if self.loss_curve else nan

    @property
    def best_loss(self) -> float:
        return min((loss for loss in self.loss_curve if loss == loss), default=nan)


class Trainer:
    """Makes the net of an estimator and trains it, as its parameters say.

    Raises ValueError for parameters that contradict each other, and for callbacks and net_params.

    Parameters
    ----------
    parameters : mapping
        Constructor parameters of an estimator, with values for those that it has not.
    defaults : Defaults
    widths : tuple of int, optional
        Of the hidden layers; by default those of ``hidden_layer_sizes``, of which "auto" is
        what ``follow`` makes of a table's rows.
    network : mapping, optional
        More settings of the network that do not depend on data.
    net_type : type of KANNet, default=KANNet

    Attributes
    ----------
    network : dict
        All of them.
    options : dict
        Those that net_params adds.
    asked : dict
        The parameters that a net is made for.
    execution : Execution
        Where and how to compute, once ``follow`` has seen a table.
    """

    fixed: ClassVar[dict[str, Any]] = {
        "solver": "adamw",
        "knots": "uniform",
        "dropout": 0.0,
        "time_limit": None,
        "sparsity": 0.0,
    }

    by_rows = False  # whether widths are "auto"
    execution: Execution

    def __init__(
        self,
        parameters: Mapping[str, Any],
        defaults: Defaults,
        widths: tuple[int, ...] | None = None,
        network: dict[str, Any] | None = None,
        net_type: type[KANNet] = KANNet,
    ) -> None:
        if FORKED.is_set():
            take_one_thread()
        if widths is None:
            sizes = parameters["hidden_layer_sizes"]
            if isinstance(sizes, str) and sizes == "auto":
                self.by_rows, widths = True, defaults.widths
            else:
                widths = check_widths("hidden_layer_sizes", sizes, single=True)
        given = _plain({**self.fixed, **parameters})
        self.parameters = SimpleNamespace(**given)
        self.defaults, self.widths, self.net_type = defaults, widths, net_type
        self.asked = dict(zip(_TRAINING, map(given.get, _TRAINING), strict=True))
        seconds = given["time_limit"]
        self.time_limit = None if seconds is None else TimeLimit(perf_counter(), float(seconds))
        self.is_meta = "prompt_dim" in parameters
        names = (*_NETWORK, *_META) if self.is_meta else _NETWORK
        # The network's settings that do not depend on data.
        of_network = dict(zip(names, map(given.__getitem__, names), strict=True))
        self.network = of_network | (_plain(network) if network else {})
        self.options = _plain(module_options(given["net_params"])) if given["net_params"] else {}
        self._check()

    def follow(self, dtype: np.dtype[Any], n_rows: int) -> None:
        """Let "auto" mean what is best for a table of this dtype and so many rows."""
        given = self.parameters
        self.defaults = self.defaults.of(n_rows)
        if self.by_rows:
            self.widths = self.defaults.widths
        self.execution = choose_execution(
            given.device, given.precision, dtype, given.solver, n_rows
        )

    def _check(self) -> None:
        """What no single range of values can say.

        Raises ValueError for parameters that contradict each other, and for callbacks and
        net_params.
        """
        given = self.parameters
        rate = given.learning_rate
        if isinstance(rate, str) and rate != "auto":
            raise ValueError(
                f"learning_rate must be a positive number or 'auto', got {rate!r}. A schedule "
                "is chosen with learning_rate_schedule."
            )
        if given.callbacks:
            check_callbacks(given.callbacks)
        if given.solver != "adamw":
            self._check_solver()
        if given.knots == "quantile" and given.basis != "bspline":
            raise ValueError(
                f"knots='quantile' contradicts basis={given.basis!r}: only splines have knots of "
                "their own. Set knots='uniform'; scale_inputs='quantile' has a like effect."
            )
        if self.is_meta and given.edge_scale and given.meta_hidden_dim == 0:
            raise ValueError(
                "edge_scale=True contradicts meta_hidden_dim=0: a linear meta-learner scales "
                "with its prompts already. Set edge_scale=False or meta_hidden_dim > 0."
            )
        if given.net_params:
            check_net_params(given.net_params, {**self.network, "knots": None}, NET_PARAMETERS)
            check_cuda_graph(given.net_params.get("cuda_graph", "auto"))

    def _check_solver(self) -> None:
        """What solvers for all rows at once cannot do."""
        given = self.parameters
        if given.dropout:
            raise ValueError(
                f"dropout={given.dropout} contradicts solver={given.solver!r}, which needs a loss "
                "that repeats. Set dropout=0 or solver='adamw'."
            )
        for name in ("prompt_learning_rate", "meta_learning_rate") if self.is_meta else ():
            value = getattr(given, name)
            if value is not None:
                raise ValueError(
                    f"{name}={value} contradicts solver={given.solver!r}, which has one learning "
                    f"rate for all. Set {name}=None or solver='adamw'."
                )
        if given.solver != "reml":
            return
        if self.widths or self.is_meta:
            what = "hidden layers" if self.widths else "a meta-learner"
            raise ValueError(
                f"solver='reml' is for sums of functions with numbers of their own, not for {what}"
                ". Use a KAN with hidden_layer_sizes=(), or solver='lbfgs'."
            )
        for name, free in _FREE.items():
            value = getattr(given, name, free)
            if value not in (free, "auto"):
                raise ValueError(
                    f"{name}={value!r} contradicts solver='reml', which holds nothing out, and "
                    f"chooses smoothness itself. Set {name}={free!r} or another solver."
                )

    def options_then_and_now(
        self, then: Mapping[str, Any], network: nn.Module
    ) -> dict[str, tuple[Any, Any]]:
        """For ``check_unchanged``: options of a network that were given, and those that are now.

        "backend" and "init" may change; those not given are the network's defaults.
        """
        known, pairs = signature(type(network)).parameters, {}
        for name in sorted({*then, *self.options} - {"backend", "init"}):
            default = known[name].default if name in known else None
            values = then.get(name, default), self.options.get(name, default)
            pairs[f"net_params['module__{name}']"] = values
        return pairs

    def net(
        self,
        make: Callable[[], nn.Module],
        criterion: nn.Module,
        execution: Execution,
        target: Any = None,
        *,
        groups: tuple[Any, ...] = (),
        **settings: Any,
    ) -> KANNet:
        """A net with a fresh optimiser over a module, which it moves to its device.

        Parameters
        ----------
        make : callable
            Gives the module.
        criterion : Module
            (outputs, target) -> loss by row.
        execution : Execution
        target : Module, optional
            Turns outputs into predictions, for callbacks that score.
        groups : tuple of (pattern, settings)
            More groups of AdamW's parameters.
        **settings
            More of the net's parameters, in place of those that would be chosen here.

        Raises
        ------
        ValueError, TypeError
            What ``make`` raises; for net_params that do not work, naming them.
        """
        user: dict[str, Any] = self.parameters.net_params or {}
        if user:
            user = _plain({k: v for k, v in user.items() if not k.startswith("module__")})
        chosen: dict[str, Any] = {} if "optimizer" in settings else self._optimiser()
        by_group = chosen.get("optimizer__param_groups")
        chosen |= settings | (deepcopy(user) if user else {})
        if by_group is not None:
            # The user's come first, and a parameter joins the first that fits.
            own = user.get("optimizer__param_groups", [])
            chosen["optimizer__param_groups"] = [*own, *by_group, *groups]
        fixed: dict[str, Any] = {"criterion": criterion, "device": execution.device, "verbose": 0}
        fixed["sparsity"] = self.parameters.sparsity
        try:
            net = self.net_type(module=make(), **fixed, **chosen)
            net.initialize()
        except (TypeError, ValueError) as error:
            given = self.parameters.net_params
            if not given:
                raise
            raise ValueError(f"{error} (with net_params={given!r})") from error
        net.module_.eval()
        if user:
            names = [name for name, _ in net.module_.named_parameters()]
            check_param_groups(user, names)
        net.execution_, net.asked_ = execution, self.asked
        net.__dict__["target_"] = target  # no module of the net's own, in skorch's sense
        return net

    def _optimiser(self) -> dict[str, Any]:
        """skorch's parameters of the optimiser; meta-learners and prompts may have own rates."""
        given, defaults = self.parameters, self.defaults
        rate, decay = given.learning_rate, given.weight_decay
        if given.solver == "reml":
            return {"optimizer": Reml}
        if given.solver == "lbfgs":
            rate = LBFGS_LEARNING_RATE if rate == "auto" else rate
            decay = LBFGS_WEIGHT_DECAY if decay == "auto" else decay
            return {"optimizer": LBFGS, "lr": rate, "penalty": decay}
        groups: list[tuple[str, dict[str, float]]] = []
        if self.is_meta:
            of_prompts = given.prompt_learning_rate
            if of_prompts is None and rate == "auto" and not given.meta_hidden_dim:
                of_prompts = defaults.prompt_learning_rate
            of_learners = given.meta_learning_rate
            for patterns, own in ((META_LEARNERS, of_learners), (PROMPTS, of_prompts)):
                for pattern in patterns if own is not None else ():
                    groups.append((pattern, {"lr": float(own)}))
        return {
            "optimizer": AdamW,
            "lr": defaults.learning_rate if rate == "auto" else rate,
            "optimizer__weight_decay": defaults.weight_decay if decay == "auto" else decay,
            "optimizer__betas": defaults.betas,
            "optimizer__fused": True,  # one pass over the parameters a step
            "optimizer__param_groups": groups,
        }

    def fit(
        self,
        net: KANNet,
        data: TensorData,
        validation: TensorData | None = None,
        score: Score | None = None,
        by_score: bool = False,
        seed: int = 0,
        checkpoints: Checkpoints | None = None,
    ) -> Found:
        """A whole run with schedule, early stopping and the best weights.

        Parameters
        ----------
        net : KANNet
        data, validation : TensorData
        score : callable (target, outputs, weight) -> float, optional
            Of the validation rows, after each epoch.
        by_score : bool
            Whether the best weights are those of the highest score, not of the lowest loss.
        seed : int
            For the order of rows.
        checkpoints : Checkpoints, optional
        """
        given, watches, n = self.parameters, validation is not None, len(data.y)
        expects = given.solver != "adamw" or given.learning_rate_schedule == "constant"
        batch_size = n if given.solver != "adamw" else min(self._batch_size(n), n)
        batches = -(-n // batch_size)
        epochs, patience = self._length(batches)
        monitor = Monitor(
            patience=patience if watches or expects else None,
            tol=given.tol,
            restore_best=watches,
            expects_convergence=expects,
            time_limit=self.time_limit,
        )
        callbacks: list[Any] = [Progress()] if given.verbose else []
        if given.solver == "adamw":
            schedule = given.learning_rate_schedule
            callbacks.insert(0, LearningRateSchedule(schedule, epochs * batches, self.time_limit))
        net.history.clear()
        net.batch_size, net.shuffle_seed = int(batch_size), seed
        net.score, net.by_score = score, by_score
        if checkpoints is not None:
            checkpoints.check_start(net.module_)
        return self.run(net, data, validation, [*callbacks, monitor], epochs, None, checkpoints)

    def pass_over(self, net: KANNet, data: TensorData, seed: int) -> Found:
        """One epoch at a constant rate, whole or not at all."""
        monitor = Monitor(None, self.parameters.tol, restore_best=False, expects_convergence=False)
        net.batch_size = min(self._batch_size(LARGE_TABLE), len(data))
        net.shuffle_seed, net.score, net.by_score = seed + len(net.history), None, False
        callbacks: list[Any] = [Progress()] if self.parameters.verbose else []
        return self.run(net, data, None, [*callbacks, monitor], 1, whole=True)

    def _batch_size(self, n: int) -> int:
        """Rows in a step of AdamW, of a table of n rows."""
        given, (fewest, most) = self.parameters.batch_size, self.defaults.batch
        if given != "auto":
            return int(given)
        return min(most, max(fewest, 1 << ((n - 1) // STEPS_A_PASS).bit_length()))

    def _length(self, batches: int) -> tuple[int, int | None]:
        """Passes over the data, of so many batches, and how many without improvement end it.

        None: the schedule runs to its end.
        """
        given, (fewest, most) = self.parameters, self.defaults.passes
        by_adamw = given.solver == "adamw"
        epochs, patience = given.max_iter, given.n_iter_no_change
        if epochs == "auto":
            by_steps = min(most, max(fewest, -(-self.defaults.steps // batches)))
            epochs = by_steps if by_adamw else LBFGS_ITERATIONS
        if patience == "auto":
            falls = by_adamw and given.learning_rate_schedule in ("cosine", "onecycle")
            patience = None if falls else PATIENCE
        return int(epochs), None if patience is None else int(patience)

    def run(
        self,
        net: KANNet,
        data: Any,
        validation: Any,
        callbacks: list[Any],
        epochs: int,
        numbers: int | None = None,
        checkpoints: Checkpoints | None = None,
        whole: bool = False,
    ) -> Found:
        """So many epochs; the user's callbacks come first, a Monitor last, then checkpoints.

        Parameters
        ----------
        numbers : int, optional
            How many a layer handles in a step, which decides about threads; by default those
            of a batch.
        whole : bool, default=False
            Whether an interrupt comes through, in place of ending training early.
        """
        given = self.parameters.callbacks
        user, copies = own_copies(given) if given else ([], [])
        last = [] if checkpoints is None else [checkpoints]
        net.callbacks, net.max_epochs = [*user, *callbacks, *last], epochs
        net.whole_ = whole
        if numbers is None:
            numbers = net.batch_size * net.module_.widest_features
        execution, monitor = net.execution_, callbacks[-1]
        try:
            net.initialize_callbacks()
            net.listeners_ = Listeners(net.callbacks_, validation is not None)
            with execution.active(numbers):
                net.fit_on(data, validation)
        finally:
            net.module_.eval()
            net.callbacks, net.callbacks_, net.listeners_ = [], [], None
            net.training_ = net.validation_ = None
        losses, scores = [], []
        for row in net.history:
            losses.append(row["train_loss"])
            scores.append(row.get("valid_score"))
        watched = scores if validation is not None else None
        ended = monitor.broken_, net.interrupted_
        return Found(losses, watched, monitor.best_score_, copies, net.replayed_, *ended)


def draw_seeds(random_state: int | np.random.RandomState | None, count: int) -> list[int]:
    """Seeds: the same for an int, the next of a RandomState, fresh for None; of rank 0 for all.

    No global generator is moved.
    """
    source = random_state
    if not isinstance(source, np.random.RandomState):
        source = np.random.RandomState(source)
    seeds: list[int] = source.randint(2**31 - 1, size=count).tolist()
    ranks = PRESENT.get()
    return seeds if ranks is None else ranks.agreed(seeds)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of NumPy, as a search gives them, as Python's: kernels want those."""
    plain = dict(settings)
    for name, value in settings.items():
        if isinstance(value, np.generic):
            plain[name] = value.item()
    return plain


def check_widths(name: str, widths: Any, single: bool = False) -> tuple[int, ...]:
    """Widths of layers as a tuple; one number is one layer where that is allowed.

    Raises ValueError unless they are whole numbers from 1 to 1,000,000, in a list of some kind.
    """
    is_number = isinstance(widths, Real) or (isinstance(widths, np.ndarray) and not widths.ndim)
    if is_number and not single:
        hint = " One layer of 64 is (64,)." if name == "hidden_channels" else ""
        raise ValueError(f"{name} must be a list of whole numbers, got {widths!r}.{hint}")
    is_list = np.iterable(widths) and not isinstance(widths, str | set | frozenset | Mapping)
    if not (is_number or is_list):
        raise ValueError(f"{name} must be a list of whole numbers, in order, got {widths!r}.")
    listed = [widths.item() if isinstance(widths, np.ndarray) else widths] if is_number else widths
    for width in listed:
        if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
            raise ValueError(
                f"{name} must hold whole numbers of at least 1, got {width!r} in {widths!r}."
            )
        if int(width) > LARGEST_WIDTH:
            raise ValueError(
                f"{name} must hold whole numbers of at most {LARGEST_WIDTH:,}, got {width!r}."
            )
    return tuple(map(int, listed))


def check_unchanged(settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise a ValueError for the first setting whose values then and now differ."""
    for name, (then, now) in settings.items():
        if then != now:
            raise ValueError(
                f"Training that goes on (warm_start, partial_fit) cannot change {name} from "
                f"{then!r} to {now!r}; call fit with warm_start=False."
            )
