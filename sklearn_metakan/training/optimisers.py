"""AdamW without torch's compiler; L-BFGS one iteration at a time, to the dtype's last digit."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector


def _plain(method: Any) -> Any:
    """A method of torch's optimisers without what tells torch.compile about it."""
    return getattr(method, "__wrapped__", method)


class AdamW(torch.optim.AdamW):
    """torch's AdamW, which would import torch.compile's machinery (2 s) to be left alone by it."""

    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    zero_grad = _plain(torch.optim.Optimizer.zero_grad)
    state_dict = _plain(torch.optim.Optimizer.state_dict)
    load_state_dict = _plain(torch.optim.Optimizer.load_state_dict)
    step = torch.no_grad()(_plain(torch.optim.Adam.step))


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
