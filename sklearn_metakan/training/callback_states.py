"""What a user's callbacks know: as values of a checkpoint, or refused by name."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from inspect import isroutine, signature
from typing import Any

import cloudpickle
from skorch.callbacks import Callback, PrintLog, ProgressBar

from sklearn_metakan.files import Codec, UnstorableError
from sklearn_metakan.training.callbacks import without_name

_SHOWN = (ProgressBar, PrintLog)  # nothing depends on what they know
_STATE = "state_dict of "


class CallbackStates:
    """The states of callbacks between two epochs, and the way back.

    A state is the callback's attributes. Numbers, text, lists, dicts and arrays are stored, and
    objects with ``state_dict`` and ``load_state_dict``, such as a scheduler of learning rates, by
    theirs. Functions, classes and parameters of the constructor are those of the callback that is
    given again. What else there is must stay as it was when training began.

    Raises ValueError for a callback that a checkpoint cannot hold, naming it and its attribute.

    Parameters
    ----------
    callbacks : iterable of (name, callback)
        As training begins.
    """

    def __init__(self, callbacks: Iterable[tuple[str, Any]]) -> None:
        self.callbacks = {name: each for name, each in callbacks if not isinstance(each, _SHOWN)}
        self.fixed: dict[tuple[str, str], bytes] = {}
        for name, callback in self.callbacks.items():
            for key, value in vars(callback).items():
                if not _is_stored(value) and not _is_given(callback, key, value):
                    self.fixed[name, key] = self._dumped(callback, key, value)

    def state(self) -> dict[str, dict[str, Any]]:
        """Of each callback by its name.

        Raises ValueError for an attribute that is no value and has changed.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, callback in self.callbacks.items():
            values = found[name] = {}
            for key, value in vars(callback).items():
                if _has_state(value):
                    values[_STATE + key] = dict(value.state_dict())
                elif _is_stored(value):
                    values[key] = _plain(value)
                elif _is_given(callback, key, value):
                    continue
                elif self.fixed.get((name, key)) != self._dumped(callback, key, value):
                    raise _refusal(callback, key, "changes")
        return found

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Put a state back."""
        for name, values in state.items():
            own = vars(self.callbacks[name])
            for key, value in values.items():
                if key.startswith(_STATE):
                    own[key.removeprefix(_STATE)].load_state_dict(value)
                else:
                    own[key] = value

    @staticmethod
    def _dumped(callback: Any, key: str, value: Any) -> bytes:
        try:
            dumped: bytes = cloudpickle.dumps(value)
        except Exception as error:
            raise _refusal(callback, key, "cannot be copied") from error
        return dumped


def facts_of_callbacks(callbacks: Iterable[Any] | None) -> Any:
    """Classes and parameters of callbacks, as plain values: what a fit that goes on must share."""
    if not callbacks:
        return None
    found = []
    for given in callbacks:
        callback = without_name(given)
        is_class = isinstance(callback, type)
        named = {} if is_class else callback.get_params(deep=False)
        stored = {name: _plain(value) for name, value in named.items() if _is_stored(value)}
        found.append(((callback if is_class else type(callback)).__qualname__, stored))
    return found


def _has_state(value: Any) -> bool:
    own = not isinstance(value, type | Callback)
    return own and hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, OrderedDict) else value


def _is_stored(value: Any) -> bool:
    try:
        Codec().encode(_plain(value))
    except UnstorableError:
        return _has_state(value)
    return True


def _is_given(callback: Any, key: str, value: Any) -> bool:
    """Whether the callback that is given again has the same."""
    is_code = isroutine(value) or isinstance(value, type | partial)
    return is_code or key in signature(type(callback)).parameters


def _refusal(callback: Any, key: str, reason: str) -> ValueError:
    kind = type(callback).__name__
    return ValueError(
        f"checkpoint_dir cannot go with the callback {kind}: its attribute {key!r} {reason}, and a "
        "checkpoint holds numbers, text, lists, arrays and objects with state_dict. Leave it out "
        "of callbacks, or set checkpoint_dir=None."
    )
