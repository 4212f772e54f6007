"""Which optimisers train a solver one after the other, on which points, and when they end."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, NamedTuple

from sklearn_metakan.pde.physics.physics import EQUATION, Batch, Physics
from sklearn_metakan.pde.solve.collocation import Steps
from sklearn_metakan.pde.solve.least_squares import LevenbergMarquardt, check_least_squares
from sklearn_metakan.pde.solve.net import REPORT, PDEProgress
from sklearn_metakan.pde.solve.weights import check_weights
from sklearn_metakan.training import (
    LBFGS,
    AfterEpoch,
    LearningRateSchedule,
    Monitor,
    SelfScaled,
    StopTraining,
    TimeLimit,
)

STEPS = 5000  # of AdamW, what max_iter="auto" means
SECOND_ORDER = ("lbfgs_iter", "ssbfgs_iter", "ssbroyden_iter", "lm_iter")
LM_REPORT = 10  # steps of Levenberg-Marquardt between two readings of the losses
RAD_STAY = (50, 10)  # in place of 1, of AdamW and of least squares: proposals take time
WEIGHED_STAY = (500, 50)  # likewise, where single points have weights that follow them
STAY = 200  # iterations of a quasi-Newton method on the same points, at least

# By itself: the most exact method that is quick enough for so many parameters. So many steps of
# AdamW go before it, at most this share of the time, but not before least squares for coefficients
# themselves: where fields are unknown, it leaves them where nothing brings them back. Generated
# coefficients want it.
AUTO_STEPS, AUTO_SHARE = 1000, 0.25
MOST_LEAST_SQUARES, MOST_DENSE = 4000, 8000
FEW = 1.5  # residuals for each parameter, in the first steps of least squares
AUTO_ITERATIONS = {"lm_iter": 1000, "ssbroyden_iter": 20_000, "lbfgs_iter": 20_000}
TINY = 1e-300
HOLDS = 0.05  # of the size of an equation before training
PATIENCE, IMPROVES = 10, 0.9  # readings in which the least loss must fall to this share


class Stage(NamedTuple):
    """So many steps of an optimiser (None: AdamW).

    New points come every so many steps, or never; losses are read every ``report``; ``share`` is
    what of the time limit is for it and those before; ``first`` what of the points it starts with.
    """

    optimizer: Mapping[str, Any] | None
    steps: int
    every: int | None
    report: int
    share: float = 1.0
    first: float = 1.0


def trains_by_itself(solver: Any) -> bool:
    """Whether ``solver="auto"`` decides, as nothing else says how to train."""
    asked = any(getattr(solver, name) for name in SECOND_ORDER)
    return solver.solver == "auto" and solver.max_iter == "auto" and not asked


def is_second_order(solver: Any) -> bool:
    """Whether a method is used that needs the digits of float64."""
    by_itself = trains_by_itself(solver) and solver.derivatives == "exact"
    return by_itself or any(getattr(solver, name) for name in SECOND_ORDER)


def stages(solver: Any, physics: Physics, batch: Batch) -> list[Stage]:
    """As the solver's parameters say; a ValueError for what the equation does not allow."""
    counts = {name: getattr(solver, name) for name in SECOND_ORDER}
    steps, share, first = STEPS if solver.max_iter == "auto" else solver.max_iter, 1.0, 1.0
    if trains_by_itself(solver) and solver.derivatives == "exact":
        chosen = _best_method(physics, batch)
        steps, share = AUTO_STEPS, AUTO_SHARE
        if chosen == "lm_iter" and not hasattr(solver, "prompt_dim"):
            steps = 0
        counts[chosen] = AUTO_ITERATIONS[chosen]
        if chosen != "lbfgs_iter" and solver.resample_every is not None:
            first = _few(physics, batch)
    if counts["lm_iter"]:
        check_least_squares(physics, batch)
    check_weights(solver.loss_weights, physics)
    every = solver.resample_every
    rate = 1.0 if solver.learning_rate == "auto" else solver.learning_rate
    stay = None if every is None else max(every, STAY)
    of_steps, of_squares = every, every
    if every == 1 and physics.attention is not None:
        of_steps, of_squares = WEIGHED_STAY
    elif every == 1 and solver.sampling == "rad":
        of_steps, of_squares = RAD_STAY
    made = [Stage(None, steps, of_steps, REPORT, share, first)]
    for name, optimizer, again, report in (
        ("lbfgs_iter", {"optimizer": LBFGS, "lr": rate}, None, REPORT),
        ("ssbfgs_iter", _self_scaled("bfgs"), stay, REPORT),
        ("ssbroyden_iter", _self_scaled("broyden"), stay, REPORT),
        ("lm_iter", {"optimizer": LevenbergMarquardt, "lr": 1.0}, of_squares, LM_REPORT),
    ):
        made.append(Stage(optimizer, counts[name], again, report, first=first))
    return [stage for stage in made if stage.steps]


def _self_scaled(method: str) -> dict[str, Any]:
    return {"optimizer": SelfScaled, "lr": 1.0, "optimizer__method": method}


def _best_method(physics: Physics, batch: Batch) -> str:
    """Least squares where points outnumber parameters, else what fits into memory."""
    size = sum(p.numel() for p in physics.parameters() if p.requires_grad)
    rows = sum(len(sets[0][0]) for sets in batch.values())
    if size <= min(MOST_LEAST_SQUARES, rows * physics.trial.output_scale.numel()):
        with suppress(ValueError):
            check_least_squares(physics, batch)
            return "lm_iter"
    return "ssbroyden_iter" if size <= MOST_DENSE else "lbfgs_iter"


def _few(physics: Physics, batch: Batch) -> float:
    """The share of points with which residuals just outnumber the parameters."""
    x = batch[EQUATION][0][0]
    size = sum(p.numel() for p in physics.parameters() if p.requires_grad)
    rows = len(x) * len(physics.residuals(x[:2]))
    return min(1.0, FEW * size / rows)


def run_stages(solver: Any, begun: Any, plan: Sequence[Stage]) -> None:
    """One optimiser after the other."""
    trainer, collocation, checkpoints = begun.trainer, begun.collocation, begun.checkpoints
    truth, width = solver._truth(), solver._physics.trial.network.widest_features
    goals = {name: solver.tol**2 * size for name, size in solver._sizes.smooth.items()}
    settled = Settled(goals, waits=trains_by_itself(solver))
    smooth = solver._sizes.smooth
    equations = {name: size for name, size in smooth.items() if name not in begun.batch}
    equations |= {EQUATION: smooth[EQUATION]} if EQUATION in smooth else {}
    for phase, (optimizer, count, every, report, share, first) in enumerate(plan):
        if checkpoints is not None and not checkpoints.reaches(phase):
            continue
        limit = trainer.time_limit
        if limit is not None:
            limit = TimeLimit(limit.began, share * limit.seconds, share == 1)
        callbacks: list[Any] = [PDEProgress()] if solver.verbose else []
        rates: Any = solver.learning_rate_schedule if optimizer is None else "constant"
        callbacks.insert(0, LearningRateSchedule(rates, count, limit))
        if optimizer is not None:
            callbacks.append(settled)
            if optimizer["optimizer"] is LevenbergMarquardt:  # which asks anew at each step
                callbacks.append(Release(equations))
            before = solver.net_
            make = partial(getattr, before, "module_")
            solver.net_ = solver._net(trainer, make, before.execution_, **optimizer)
            solver.net_.history.extend(before.history)
            solver.net_.weights_ = before.weights_
        monitor = Monitor(None, 0.0, False, expects_convergence=False, time_limit=limit)
        counts = [report] * (count // report) + [count % report] * (count % report > 0)
        data = Steps(collocation, solver._residual_size, counts, every, first)
        solver.net_.planned_steps_, solver.net_.truth = count, truth
        found = trainer.run(
            solver.net_,
            data,
            None,
            [*callbacks, monitor],
            len(counts),
            solver.n_interior * width,
            checkpoints,
        )
        solver.net_.truth = None
        solver.cuda_graph_, solver.callbacks_ = found.replayed, found.callbacks
        if found.broken or found.interrupted:
            break


class Release(AfterEpoch):
    """Has constants that are held trained once the equation holds with them, or nearly so.

    Nearly so: where its loss was not halved since the last reading.

    Parameters
    ----------
    before : mapping of str to float
        Losses of the equation before training.
    """

    def __init__(self, before: Mapping[str, float]) -> None:
        self.before = before

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.last_ = inf

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        terms = net.history[-1]["terms"]
        share = max(terms[name] / max(size, TINY) for name, size in self.before.items())
        if share <= HOLDS**2 or share > self.last_ / 2:
            net.module_.pde_params.release()
        self.last_ = share


class Settled(AfterEpoch):
    """Ends training when all losses are below their goals, or the sum falls no more.

    Parameters
    ----------
    goals : mapping of str to float
        By the name of a loss.
    waits : bool
        Whether to end where the least loss has hardly fallen in the last ten readings, all of them
        at as many points.
    """

    def __init__(self, goals: Mapping[str, float], waits: bool) -> None:
        self.goals, self.waits = goals, waits

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.losses_: list[float] = []
        self.share_ = 1.0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        if row["share"] != self.share_:
            self.share_, self.losses_ = row["share"], []
        self.losses_.append(row["train_loss"])
        before, last = self.losses_[:-PATIENCE], self.losses_[-PATIENCE:]
        falls = not self.waits or not before or min(last) < IMPROVES * min(before)
        reached = all(row["terms"][name] <= goal for name, goal in self.goals.items())
        if reached or not falls:
            raise StopTraining
