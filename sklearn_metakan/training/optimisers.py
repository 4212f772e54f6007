"""AdamW without torch's compiler; L-BFGS one iteration at a time, to the dtype's last digit."""

from collections.abc import Callable, Iterable
from itertools import chain
from types import NoneType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def _plain(method: Any) -> Any:
    """A method of torch's optimisers without what tells torch.compile about it."""
    return getattr(method, "__wrapped__", method)


class _Moments(NamedTuple):
    """An optimiser's ``state``, and it by group, in the order of parameters.

    ``steps`` are those that parameters have taken, (n,) of each group; the state has views of them.
    """

    state: dict[Tensor, dict[str, Tensor]]
    by_group: list[list[dict[str, Tensor]]]
    steps: list[Tensor]


class AdamW(torch.optim.AdamW):
    """torch's AdamW, which would import torch.compile's machinery (2 s) to be left alone by it.

    On a CPU, fused steps after the first go straight to torch's kernel, unless there are hooks.
    What is around it (spans for profilers, tensors sorted by device) takes as long as 100,000
    numbers do.
    """

    _moments: _Moments | None = None

    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    state_dict = _plain(torch.optim.Optimizer.state_dict)
    zero_grad = _plain(torch.optim.Optimizer.zero_grad)
    _any_step = torch.optim.Optimizer.profile_hook_step(
        torch.no_grad()(_plain(torch.optim.Adam.step))
    )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        known, state = self._moments, self.state
        if known is None or known.state is not state or sum(map(len, known.by_group)) != len(state):
            found = self._any_step(closure)
            self._moments = self._known_moments()
            return found
        if any(self._hooks()):
            return self._any_step(closure)
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        gradients = [[p.grad for p in group["params"]] for group in self.param_groups]
        sizes = [*map(len, gradients)], [*map(len, known.by_group)]
        if sizes[0] != sizes[1] or NoneType in map(type, chain(*gradients)):
            self._any_step()
            return found
        with torch.no_grad():
            for group, own, together, of_group in zip(
                self.param_groups, known.by_group, known.steps, gradients, strict=True
            ):
                first, second, steps = ([each[name] for each in own] for name in _MOMENTS)
                together.add_(1)
                beta1, beta2 = group["betas"]
                how = {name: group[name] for name in ("lr", "weight_decay", "eps", "maximize")}
                how |= {"beta1": beta1, "beta2": beta2, "amsgrad": False}
                torch._fused_adamw_(group["params"], of_group, first, second, [], steps, **how)
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _plain(torch.optim.Optimizer.load_state_dict)(self, state_dict)
        self._lay_moments()

    def lay(self, parameter: nn.Parameter, axis: int) -> None:
        """Have this axis of a parameter be the first in memory, of its moments too."""
        parameter.data = parameter.data.movedim(axis, 0).contiguous().movedim(0, axis)
        self._lay_moments()

    def _lay_moments(self) -> None:
        """As their parameters lie; the kernel reads all of them in the order of memory."""
        for parameter, own in self.state.items():
            for name, value in own.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    own[name] = torch.empty_like(parameter).copy_(value)

    step.hooked = True  # type: ignore[attr-defined] # or torch puts the span around it again

    def _hooks(self) -> tuple[dict[int, Any], ...]:
        """What wants to be called before and after steps, of this optimiser or of all."""
        own = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        return *own, _global_optimizer_pre_hooks, _global_optimizer_post_hooks

    def _known_moments(self) -> _Moments | None:
        """What a step goes straight to the kernel with; None where that is not possible."""
        by_group, steps = [], []
        for group in self.param_groups:
            parameters, first = group["params"], group["params"][0]
            same = all(p.is_cpu and p.dtype == first.dtype and p in self.state for p in parameters)
            if not same or not group["fused"] or group["amsgrad"]:
                return None
            own = [self.state[p] for p in parameters]
            steps.append(torch.stack([each["step"] for each in own]))
            for each, step in zip(own, steps[-1].unbind(), strict=True):
                each["step"] = step  # one operation counts them all
            by_group.append(own)
        return _Moments(self.state, by_group, steps)


class LBFGS(torch.optim.LBFGS):
    """Full-batch L-BFGS with strong Wolfe line search, one iteration a step.

    Differs from torch's own in two things. That one evaluates the loss once more at the start
    of every step; here the closure remembers where it was evaluated last, so that a step ends
    with the loss and gradient of the accepted point, and the next one starts from them. And it
    refuses curvature pairs with ``y . s <= 1e-10``, all of them once the loss is small; here it
    is given loss and gradient in units of the dtype's rounding, 1 / eps (a power of two, so that
    this rounds nothing): minimisation goes on to the dtype's end, whatever the loss's unit.
    ``n_evaluations`` counts how often loss and gradient were evaluated. A step that goes
    nowhere, because the loss is not finite where the line search looked, returns NaN.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1.0, **options: Any) -> None:
        defaults: dict[str, Any] = {  # max_eval bounds a line search, for max_iter=1 it would be 1
            "max_iter": 1,
            "max_eval": 25,
            "history_size": 50,
            "tolerance_grad": 1e-12,
            "tolerance_change": 0.0,
            "line_search_fn": "strong_wolfe",
        }
        super().__init__(params, lr=lr, **(defaults | options))
        (group,) = self.param_groups
        self._units = 1 / torch.finfo(group["params"][0].dtype).eps
        group["tolerance_grad"] *= self._units
        self._seen: tuple[Tensor, Tensor] | None = None  # where, and the loss there
        self.n_evaluations = 0

    def extra_state(self) -> dict[str, Any]:
        """What ``state_dict`` lacks; where it was evaluated last, it will be once more."""
        return {"n_evaluations": self.n_evaluations - (self._seen is not None)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self._seen, self.n_evaluations = None, state["n_evaluations"]

    def _gather_flat_grad(self) -> Tensor:
        gradient: Tensor = super()._gather_flat_grad()
        return gradient * self._units

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        parameters, evaluated, finite = self.param_groups[0]["params"], False, True

        def remembering() -> Tensor:
            nonlocal evaluated, finite
            point = parameters_to_vector(parameters).detach()
            if self._seen is None or not torch.equal(point, self._seen[0]):
                self._seen, evaluated = (point, closure().detach()), True
                finite = finite and bool(self._seen[1].isfinite())
                self.n_evaluations += 1
            return self._seen[1] * self._units

        start = [parameter.detach().clone() for parameter in parameters]
        try:
            super().step(remembering)
        except BaseException:  # such as an interrupt in a line search: no trial point stays
            set_values(parameters, start)
            raise
        if not finite and all(map(torch.equal, parameters, start)):
            return parameters[0].new_full((), torch.nan)
        if not evaluated:  # no step from a stationary point; the caller still waits for its loss
            self._seen = None
        with torch.enable_grad():
            return remembering() / self._units


@torch.no_grad()
def set_values(parameters: Iterable[nn.Parameter], values: Iterable[Tensor]) -> None:
    """In place, so that what reads the parameters' memory, such as a graph, sees them."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
