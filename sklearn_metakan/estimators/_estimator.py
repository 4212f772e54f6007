"""What estimators of tables and of images share: data in, training, data out."""

from math import nan
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_metakan.estimators._inference import network_outputs
from sklearn_metakan.estimators._rows import Rows, to_tensor
from sklearn_metakan.estimators._to_torch import TorchPredictor
from sklearn_metakan.estimators.inputs.checks import (
    as_array,
    check_columns_are_numbers,
    check_finite,
    check_sample_weight,
    check_target,
    check_validation_is_used,
    is_stochastic,
)
from sklearn_metakan.training import (
    BaseKANEstimator,
    Monitor,
    TensorData,
    check_working_memory,
    draw_seeds,
)

AUTO_EARLY_STOPPING_ROWS = 200
AUTO_PATIENCE = 20


class DataEstimator(BaseKANEstimator):
    """Common base of the estimators that are fitted to rows; not for use on its own.

    Subclasses give the inputs' side, ``_start``, ``_inputs`` and ``_torch_inputs``, and the
    target's: ``_encode_target``, ``_score_outputs``, ``_make_criterion``, ``_row_weights``, ...
    """

    _of_training: ClassVar[set[str]] = {"dropout", "grid_size"}
    _dtypes: ClassVar[list[type]] = [np.float64, np.float32]
    _target_checks: ClassVar[dict[str, Any]] = {}
    _of_images: ClassVar[bool] = False
    _data_dtype: np.dtype[Any]
    _fixed: dict[str, Any]
    _weight_unit: float
    validation_scores_: list[float] | None
    best_validation_score_: float | None

    # --- fitting ----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Fit to rows of a table, or to images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features); images, see ``image_shape``
            Finite numbers; scaled inside. Text columns need an encoder before.
        y : array-like of shape (n_samples,) or, for regressors, (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative; scaled to mean one. Rows of weight zero are left out.
        X_val, y_val, sample_weight_val : optional
            Validation rows for early stopping, in place of a split of X.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For invalid parameters or data; the estimator then stays as it was.
        """
        with self._state_kept_on_error():
            self._check_parameters()
            continues = self.warm_start and self.__sklearn_is_fitted__()
            rows = self._read(X, y, sample_weight, reset=not continues)
            self._check_same_dtype(rows, continues)
            self._weight_unit = rows.unit
            given = self._read_validation(X_val, y_val, sample_weight_val)
            seeds = draw_seeds(self.random_state, 3)
            rows, validation = self._split(rows, given, seeds[0])
            if continues:
                self._check_same_network()
                self._rebuild(self._choose_execution(rows.X.dtype), seeds[1])
            else:
                self._begin_with(rows, seeds[1])
            self._fit_network(rows, validation, seeds[2])
        return self

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """One pass over these rows, with a constant learning rate.

        The first call fixes scaling and knots; give it rows that are typical of all. Pickles
        hold no optimiser: a loaded copy goes on with a fresh one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or, for regressors, (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative. Those of all calls are compared with one another: the unit is the
            mean of the first call's. Rows of weight zero are left out.

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        with self._state_kept_on_error():
            self._check_parameters()
            first = not self.__sklearn_is_fitted__()
            unit = None if first else self._weight_unit
            rows = self._read(X, y, sample_weight, reset=first, classes=classes, unit=unit)
            self._weight_unit = rows.unit
            self._check_same_dtype(rows, continues=not first)
            seeds = draw_seeds(self.random_state, 2)
            if first:
                self._begin_with(rows, seeds[0])
            else:
                self._check_same_network()
                if self.net_.asked_ != self._asked():
                    self._rebuild(self._choose_execution(rows.X.dtype), seeds[0])
            monitor = Monitor(None, self.tol, restore_best=False, expects_convergence=False)
            seed = seeds[1] + len(self.net_.history)
            self._train(self._tensors(rows), max_iter=1, monitor=monitor, seed=seed)
            self._record_losses()
            self.validation_scores_ = None
            self.best_validation_score_ = None
        return self

    def _begin_with(self, rows: Rows, seed: int) -> None:
        self._start(rows, seed)
        self._fixed = self._fixed_settings()

    def _fixed_settings(self) -> dict[str, Any]:
        """What the first rows fix, besides the network's settings."""
        return {"scale_inputs": self.scale_inputs, "knots": self.knots}

    def _check_same_network(self, **more: tuple[Any, Any]) -> None:
        now = self._fixed_settings()
        super()._check_same_network(**{k: (self._fixed[k], now[k]) for k in now}, **more)

    def _check_same_dtype(self, rows: Rows, continues: bool) -> None:
        if continues and rows.X.dtype != self._data_dtype:
            raise ValueError(
                f"X has dtype {rows.X.dtype}, but the fit that goes on had {self._data_dtype}; "
                f"convert it with X.astype({str(self._data_dtype)!r})."
            )
        self._data_dtype = rows.X.dtype

    def _fit_network(self, rows: Rows, validation: Rows | None, seed: int) -> None:
        watches = validation is not None
        expects = self.solver == "lbfgs" or self.learning_rate_schedule == "constant"
        monitor = Monitor(
            patience=self._patience() if watches or expects else None,
            tol=self.tol,
            restore_best=watches,
            expects_convergence=expects,
        )
        self.net_.history.clear()
        self._train(
            self._tensors(rows),
            None if validation is None else self._tensors(validation),
            score=self._score_outputs,
            monitor=monitor,
            seed=seed,
        )
        self._record_losses()
        history = self.net_.history
        self.validation_scores_ = [row["valid_score"] for row in history] if watches else None
        self.best_validation_score_ = monitor.best_score_

    def _patience(self) -> int | None:
        """Iterations without improvement before stopping; None: the schedule runs to its end."""
        if self.n_iter_no_change != "auto":
            return self.n_iter_no_change
        falls = self.solver == "adamw" and self.learning_rate_schedule in ("cosine", "onecycle")
        return None if falls else AUTO_PATIENCE

    def _record_losses(self) -> None:
        self.loss_curve_ = [row["train_loss"] for row in self.net_.history]
        self.n_iter_ = len(self.loss_curve_)
        # Empty after an interrupt in the first iteration.
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else nan
        self.best_loss_ = min((loss for loss in self.loss_curve_ if loss == loss), default=nan)

    # --- data -------------------------------------------------------------------------

    def _read(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        classes: Any = None,
        unit: float | None = None,
    ) -> Rows:
        """Validate a training table and drop rows of weight zero."""
        name = type(self).__name__
        X, y = self._as_table(as_array(X), reset), as_array(y, "y")
        check_columns_are_numbers(X, name)
        check_target(X, y, self._target_checks.get("y_numeric", False), name)
        options = {"dtype": self._dtypes, "ensure_all_finite": False, **self._target_checks}
        with np.errstate(over="ignore"):  # check_finite says so
            X, y = validate_data(self, X, y, reset=reset, **options)
        self._check_table(X, reset)
        check_finite(X, getattr(self, "feature_names_in_", None), name, self._of_images)
        y = self._encode_target(y, reset, classes)
        weight = self._row_weights(y, check_sample_weight(sample_weight, X))
        return Rows.that_count(X, y, weight, unit)

    def _read_validation(self, X: Any, y: Any, weight: Any) -> Rows | None:
        if X is None and y is None and weight is None:
            return None
        check_validation_is_used(X, y, self.early_stopping)
        try:
            return self._read(X, y, weight, reset=False)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"In X_val, y_val, sample_weight_val: {error}") from error

    def _split(self, rows: Rows, validation: Rows | None, seed: int) -> tuple[Rows, Rows | None]:
        """Set validation rows aside if early stopping asks for them."""
        n = len(rows.X)
        wanted = self.early_stopping
        if wanted == "auto":
            wanted = n > AUTO_EARLY_STOPPING_ROWS and self.solver == "adamw"
        if validation is not None or not wanted:
            return rows, validation
        if n < 2:
            raise ValueError(f"early_stopping=True needs at least 2 rows, got {n} sample(s).")
        return self._hold_out(rows, seed)

    def _tensors(self, rows: Rows) -> TensorData:
        execution = self._execution
        weight = None if rows.weight is None else to_tensor(rows.weight, execution)
        target = to_tensor(self._scale_target(rows.y), execution)
        return TensorData(self._inputs(rows.X), target, weight)

    # --- predicting -------------------------------------------------------------------

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Raw network outputs, shape (n_samples, n_network_outputs)."""
        check_is_fitted(self)
        name = type(self).__name__
        X = self._as_table(as_array(X), reset=False)
        check_columns_are_numbers(X, name)
        options = {"dtype": self._dtypes, "ensure_all_finite": False}
        with np.errstate(over="ignore"):  # check_finite says so
            X = validate_data(self, X, reset=False, **options)
        self._check_table(X, reset=False)
        check_finite(X, getattr(self, "feature_names_in_", None), name, self._of_images)
        check_working_memory(self)
        return network_outputs(self.module_, self._inputs, X, self._execution, self.working_memory)

    def to_torch(self) -> nn.Module:
        """The fitted model as a module of its own, for use without scikit-learn.

        Scaling is inside and generated weights are made once and for all, so that one row
        costs no meta-learner. The module is a copy: later training does not change it.

        Returns
        -------
        torch.nn.Module
            Raw X (n_samples, n_features) or images in, on the estimator's device; out, in the
            same dtype if it is a floating one (or float64, where ``predict`` gives that), what
            ``predict`` returns (regressors), or what ``predict_proba`` does (classifiers).
            Inputs are not checked.
        """
        check_is_fitted(self)
        parts = self._torch_inputs(), self.module_, self._torch_head()
        return TorchPredictor(*parts, wide=self._predicts_wide).eval()

    @property
    def _predicts_wide(self) -> bool:
        """Whether predictions are float64 whatever X is."""
        return False

    # --- the inputs' side, given by subclasses ------------------------------------------

    def _as_table(self, X: Any, reset: bool) -> Any:
        """X as validation takes it, with two axes; fixes the shape of a row if ``reset``."""
        return X

    def _check_table(self, X: NDArray[Any], reset: bool) -> None:
        """What the validated table must fulfil beside."""

    def _start(self, rows: Rows, seed: int) -> None:
        """Fix scaling, knots and precision from these rows, and make the network."""
        raise NotImplementedError

    def _inputs(self, X: NDArray[Any]) -> Tensor:
        """Validated rows as the network takes them, on its device."""
        raise NotImplementedError

    def _torch_inputs(self) -> nn.Module:
        """``_inputs`` as a module, from raw X."""
        raise NotImplementedError

    # --- the target's side, given by subclasses ---------------------------------------

    @property
    def _n_network_outputs(self) -> int:
        raise NotImplementedError

    def _encode_target(self, y: NDArray[Any], reset: bool, classes: Any = None) -> NDArray[Any]:
        """As the network's loss wants it; ``classes`` are those that partial_fit was told."""
        raise NotImplementedError

    def _start_target(self, rows: Rows) -> None:
        """Fit the target's scaling, if it has one."""

    def _scale_target(self, y: NDArray[Any]) -> NDArray[Any]:
        return y

    def _row_weights(self, y: NDArray[Any], weight: NDArray[Any] | None) -> NDArray[Any] | None:
        return weight

    def _hold_out(self, rows: Rows, seed: int) -> tuple[Rows, Rows]:
        """Training and validation rows."""
        return rows.hold_out(self.validation_fraction, seed, None)

    def _score_outputs(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        raise NotImplementedError

    def _torch_head(self) -> nn.Module:
        """What turns the network's outputs into predictions."""
        raise NotImplementedError
