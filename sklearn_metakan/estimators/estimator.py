"""The estimators' common base: an estimator has inputs, a network, a target and a trainer."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_metakan.estimators.continued import CHANGEABLE, check_same_network, made_anew
from sklearn_metakan.estimators.inputs.checks import (
    check_sample_weight,
    check_target,
    check_validation_is_used,
    is_stochastic,
)
from sklearn_metakan.estimators.inputs.columns import ColumnReader
from sklearn_metakan.estimators.inputs.images import ImageInputs, Layout
from sklearn_metakan.estimators.inputs.rows import Rows, rows_that_count, set_aside
from sklearn_metakan.estimators.inputs.stored import as_stored
from sklearn_metakan.estimators.inputs.survey import (
    StoredRows,
    by_parts,
    check_can_be_read_by_parts,
    sampled,
)
from sklearn_metakan.estimators.inputs.table import QUANTILE_ROWS, SCALED_MEMORY, TableInputs
from sklearn_metakan.estimators.onnx_graph import export_onnx
from sklearn_metakan.estimators.predictor import Predictor
from sklearn_metakan.estimators.reading import summary, typical_inputs
from sklearn_metakan.estimators.targets.intervals import HeldOutErrors
from sklearn_metakan.estimators.targets.labels import LabelTarget
from sklearn_metakan.estimators.targets.multilabel import MultilabelTarget, target_of_labels
from sklearn_metakan.estimators.targets.number import NumberTarget
from sklearn_metakan.estimators.targets.scoring import Scoring
from sklearn_metakan.nn import FewRows, KANNetwork, feature_importances, frozen, n_frozen
from sklearn_metakan.ops import hand_back_freed_memory
from sklearn_metakan.training import (
    Defaults,
    Found,
    KANNet,
    MadeData,
    TensorData,
    Trainer,
    by_chunks,
    draw_seeds,
    get_params,
    getstate,
    memory_for_rows,
    open_checkpoints,
    refuse_misspelt,
    save,
    scales_by_batch,
    set_params,
    setstate,
    warn_caller,
)


@dataclass(eq=False, repr=False, kw_only=True)
class KANEstimator(BaseEstimator):
    """Common base of the estimators that are fitted to rows; not for use on its own.

    Public classes add their own parameters and name their parts: the types of inputs and target,
    the function that makes the network, and what "auto" means for the trainer.
    """

    grid_size: int | str = "auto"
    learning_rate: float | str = "auto"
    max_iter: int | str = "auto"
    time_limit: float | None = None
    weight_decay: float | str = "auto"
    basis: str = "bspline"
    degree: int | str = "auto"
    knots: str = "uniform"
    extrapolation: str = "linear"
    dropout: float = 0.0
    scale_inputs: str | None = "auto"
    solver: str = "adamw"
    learning_rate_schedule: str = "onecycle"
    batch_size: int | str = "auto"
    tol: float = 1e-4
    early_stopping: bool | str = "auto"
    validation_fraction: float = 0.1
    validation_split: Any = None
    scoring: Any = None
    n_iter_no_change: int | str = "auto"
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

    _inputs_type: ClassVar[type[TableInputs] | type[ImageInputs]]
    _target_type: ClassVar[type[NumberTarget | LabelTarget]]
    _make_network: ClassVar[Callable[..., KANNetwork]]
    _defaults: ClassVar[Defaults]
    _net_type: ClassVar[type[KANNet]] = KANNet

    _errors: HeldOutErrors | None = field(default=None, init=False)  # of a regressor
    _n_rows: int = field(default=0, init=False)  # of the first fit; they decide what "auto" means

    __new__ = refuse_misspelt
    get_params, set_params = get_params, set_params
    __getstate__, __setstate__, save = getstate, setstate, save
    export_onnx = export_onnx

    # In files: classes of objects; parameters that may be functions; where the network is.
    _stored_types: ClassVar[tuple[type, ...]] = (
        TableInputs,
        ImageInputs,
        ColumnReader,
        Layout,
        NumberTarget,
        LabelTarget,
        MultilabelTarget,
        HeldOutErrors,
    )
    _given_again: ClassVar[tuple[str, ...]] = ("augment", "loss")
    _of_network: ClassVar[str] = ""

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
        groups: ArrayLike | None = None,
        resume: bool = False,
    ) -> Self:
        """Fit to rows of a table, or to images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features); images, see ``image_shape``
            Numbers, scaled inside, and categories, NaN or None where something is missing.
        y : array-like of shape (n_samples,), or (n_samples, n_outputs or, as 0 and 1, n_labels)
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative; scaled to mean one. Rows below a millionth of the mean are left out.
        X_val, y_val, sample_weight_val : optional
            Validation rows for early stopping, in place of a split of X. A pipeline hands X_val
            on as it is, unless it is told ``Pipeline(..., transform_input=["X_val"])``.
        groups : array-like of shape (n_samples,), optional
            Rows of one group are held out together, or as ``validation_split`` splits them.
        resume : bool, default=False
            Whether to go on from the newest checkpoint in ``checkpoint_dir``, where there is
            one, to the weights of a fit that was never interrupted: on a CPU to the last bit.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For invalid parameters or data; the estimator then stays as it was.
        """
        fitted = self._working_copy()
        with torch.inference_mode(False):
            trainer = fitted._trainer()
            seeds = draw_seeds(self.random_state, 3)
            asked = resume or self.checkpoint_dir is not None
            checkpoints = open_checkpoints(self, resume) if asked else None
            goes_on = fitted.warm_start and fitted.__sklearn_is_fitted__()
            rows = fitted._read(X, y, sample_weight, reset=not goes_on)
            fitted._weight_unit = rows.unit
            given = None
            if not (X_val is None and y_val is None and sample_weight_val is None):
                given = fitted._read_validation(X_val, y_val, sample_weight_val)
            if checkpoints is not None:
                known = sampled(rows).facts("") | {"groups": groups}
                known |= {"column names": getattr(fitted, "feature_names_in_", None)}
                known |= {**fitted.input_scaler_.fitted, **fitted.target_.fitted}
                known |= {} if given is None else given.facts("_val")
                seeds = checkpoints.begin(seeds, self, known)
            rows, validation = set_aside(self, rows, given, groups, seeds[0])
            trainer.follow(rows.X.dtype, fitted._n_rows)
            begin = made_anew if goes_on else type(fitted)._start
            net = begin(fitted, trainer, rows, seeds[1])
            if given is not None:
                fitted._warn_if_beyond(given)
            data, held_out = fitted._data(net, rows, validation)
            del rows, given, validation  # of a large table, a sixth of its memory
            if len(data.y) > QUANTILE_ROWS:
                hand_back_freed_memory()
            own = self.scoring is not None
            score = Scoring(self.scoring, fitted.target_) if own else fitted.target_.score
            found = trainer.fit(net, data, held_out, score, own, seeds[2], checkpoints)
            fitted._record(net, found)
            if held_out is not None:
                fitted._learn_from(held_out, net.outputs(held_out))
        self.__dict__ = fitted.__dict__  # at once: who predicts meanwhile has the earlier fit
        return self

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """One pass over these rows, with a constant learning rate; whole or, on Ctrl-C, not at all.

        The first call fixes scaling, knots and levels, and which columns vary; give it rows that
        are typical of all. Pickles hold no optimiser: a loaded copy goes on with a fresh one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or, for regressors, (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative. Those of all calls are compared with one another: the unit is the
            mean of the first call's. Rows below a millionth of a call's mean are left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For invalid parameters or data; the estimator then stays as it was.
        """
        return self._partial_fit(X, y, sample_weight)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        fitted = self._working_copy()
        first = not fitted.__sklearn_is_fitted__()
        with torch.inference_mode(False):
            trainer = fitted._trainer()
            seeds = draw_seeds(self.random_state, 2)
            unit = None if first else fitted._weight_unit
            rows = fitted._read(X, y, sample_weight, reset=first, classes=classes, unit=unit)
            fitted._weight_unit = rows.unit
            trainer.follow(rows.X.dtype, fitted._n_rows)
            if first:
                net = fitted._start(trainer, rows, seeds[0])
            else:
                check_same_network(fitted, trainer, rows.X.dtype)
                if fitted.net_.asked_ == trainer.asked:
                    net = fitted.net_.twin()
                else:
                    net = made_anew(fitted, trainer, rows, seeds[0])
                    net.history.extend(fitted.net_.history)
            found = trainer.pass_over(net, fitted._data(net, rows)[0], seeds[1])
            fitted._record(net, found)
        self.__dict__ = fitted.__dict__
        return self

    def _working_copy(self) -> Self:
        """The present state. A fit that fails on it leaves the estimator itself as it was."""
        copied = object.__new__(type(self))
        copied.__dict__ = self.__dict__.copy()
        return copied

    def _trainer(self) -> Trainer:
        """A trainer by the present parameters, which are checked."""
        layers = ImageInputs.layers(self) if self._inputs_type.of_images else ()
        return Trainer(vars(self), self._defaults, *layers)

    def _read(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        classes: Any = None,
        unit: float | None = None,
    ) -> Rows:
        """Validate a training table; with ``reset``, inputs and target begin with it."""
        stored = None if type(X) is np.ndarray else as_stored(X)
        if stored is not None:
            check_can_be_read_by_parts(self)
        X = self._validated(X, reset) if stored is None else stored
        if reset:
            make_target: Any = self._target_type
            if not make_target.is_numeric:
                make_target = target_of_labels(y)
            self.target_ = make_target(*map(vars(self).get, self._target_type.arguments))
        else:
            self.target_ = self.target_.follow(self)
        target = self.target_
        is_plain = type(y) is np.ndarray and y.dtype == np.float64 and y.shape == (len(X),)
        if not (is_plain and target.is_numeric and np.isfinite(y).all()):
            y = check_target(X, y, target, type(self).__name__)
        y = target.encode(y, classes)
        weight = None if sample_weight is None else check_sample_weight(sample_weight, X)
        if getattr(self, "class_weight", None) is not None:
            weight = target.weights(y, weight, self.class_weight)
        rows = rows_that_count(X, y, weight, unit)
        if stored is not None:
            rows = by_parts(self, rows, reset)
        if reset:
            self._n_rows = len(rows.y)
        return rows

    def _validated(self, X: Any, reset: bool = False) -> NDArray[Any]:
        """Rows of a table, or images, as the inputs take them; with ``reset`` as new ones do."""
        if reset:
            make: Any = self._inputs_type
            self.input_scaler_ = make(*map(vars(self).get, make.arguments))
        inputs, name = self.input_scaler_, type(self).__name__
        options = {"dtype": inputs.dtypes, "ensure_all_finite": False}
        with np.errstate(over="ignore", invalid="ignore"):
            X = validate_data(self, inputs.as_table(X, name, reset), reset=reset, **options)
            needs_a_look = inputs.of_images or not np.isfinite(X.sum())
        if reset:
            inputs.names = getattr(self, "feature_names_in_", None)
        if needs_a_look:
            inputs.check_table(X, name)
        if reset:
            inputs.dtype = X.dtype
        return X

    def _read_validation(self, X: Any, y: Any, weight: Any) -> Rows:
        check_validation_is_used(X, y, self.early_stopping)
        try:
            return self._read(X, y, weight, reset=False)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"In X_val, y_val, sample_weight_val: {error}") from error

    def _warn_if_beyond(self, validation: Rows) -> None:
        column = self.input_scaler_.beyond(sampled(validation))
        if column is not None:
            warn_caller(
                "All rows of X_val lie beyond the range of training in "
                f"{self.input_scaler_.called(column)}. A pipeline hands X_val on as it is; have it "
                'transformed with Pipeline(..., transform_input=["X_val"]).',
                UserWarning,
            )

    def _start(self, trainer: Trainer, rows: Rows, seed: int) -> KANNet:
        """Fit scaling and knots to these rows, and make a network and its net."""
        self._fixed, self._options = self._fixed_settings(trainer), deepcopy(trainer.options)
        target = self.target_.fit(rows)
        criterion = target.criterion(rows)
        some = sampled(rows) if isinstance(rows.X, StoredRows) else rows
        inputs = self.input_scaler_.fit(some, trainer.execution.dtype, self._n_rows)
        self._network = {
            **trainer.network,
            **inputs.network_shape(some, self, trainer.widths, target.n_network_outputs),
            "dtype": trainer.execution.dtype,
            "working_memory": trainer.parameters.working_memory,
            **trainer.options,
        }
        make = partial(self._make_network, **self._network | {"seed": seed})
        return trainer.net(make, criterion, trainer.execution, target)

    def _fixed_settings(self, trainer: Trainer) -> dict[str, Any]:
        """What must not change as training goes on, besides options in net_params."""
        settings = trainer.network | dict.fromkeys(CHANGEABLE)
        if hasattr(self, "hidden_layer_sizes"):
            settings["hidden_layer_sizes"] = trainer.widths
        names = ["scale_inputs", "knots", "scale_target", "n_estimators"]
        for name in (*names, "interactions", "monotonic_cst"):
            if hasattr(self, name):
                value = getattr(self, name)
                settings[name] = value.tolist() if isinstance(value, np.ndarray) else value
        return settings

    def _data(
        self, net: KANNet, rows: Rows, validation: Rows | None = None
    ) -> tuple[TensorData, TensorData | None]:
        """Rows as tensors on the net's device; those among the training rows share their table."""
        device, dtype = net.execution_.device, net.execution_.dtype
        n, d, inputs = len(rows.y), rows.X.shape[1], self.input_scaler_
        tensor = partial(inputs.tensor, device=device, dtype=dtype, trains=True)
        large = isinstance(inputs, TableInputs) and n * d * dtype.itemsize > SCALED_MEMORY * 2**20
        found: list[TensorData] = []
        for part in (rows,) if validation is None else (rows, validation):
            weight, counts, within = part.weight, part.counts, part.within
            more = (
                None if weight is None else torch.from_numpy(weight).to(device, dtype),
                None if counts is None else torch.from_numpy(counts).to(device),
            )
            stored: Any = part.X if isinstance(part.X, StoredRows) else None
            if within is not None and stored is None:  # among the rows before
                whole, places = found[0], torch.from_numpy(within).to(device)
                found.append(type(whole)(whole.source, whole.y[places], *more, places))
                continue
            y = self.target_.tensor(part, device, dtype)
            if stored is not None:
                found.append(stored.data(part, tensor, y, *more))
            elif large and scales_by_batch(net, d):
                found.append(MadeData(part.made_by(tensor), y, *more))
            else:
                found.append(TensorData(tensor(part), y, *more))
        return found[0], found[1] if validation is not None else None

    def _learn_from(self, data: Any, outputs: Tensor) -> None:
        """What held-out rows tell: errors of numbers, and how sure to be of labels."""
        if self.target_.is_numeric:
            self._errors = self.target_.errors(outputs, data)
        else:
            weight = None if data.weight is None else data.weight.cpu()
            self.target_.calibrate(data.y.cpu(), outputs, weight)

    def _record(self, net: KANNet, found: Found) -> None:
        """What a fit leaves behind."""
        self.net_, self._errors = net, None
        self.__dict__ |= {**self.input_scaler_.fitted, **self.target_.fitted}
        self.loss_curve_, self.n_iter_ = found.loss_curve, len(found.loss_curve)
        self.loss_, self.best_loss_ = found.loss, found.best_loss
        self.validation_scores_ = found.validation_scores
        self.best_validation_score_ = found.best_validation_score
        self.cuda_graph_, self.callbacks_ = found.replayed, found.callbacks

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predictions in the target's units, or the most probable classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Of regressors the mean; the median for "absolute_error", the quantile for
            "quantile". In X's dtype; float64 where float32 could not tell the target's values
            apart, as with seconds since 1970.

        Raises
        ------
        ValueError
            For invalid X, and for rows so far out that their prediction cannot be held.
        """
        fitted, X, outputs = self._outputs(X)
        predictions = fitted.target_.predictions(outputs)
        if predictions.dtype.kind == "f":
            fitted._check_held(X, np.isfinite(predictions))
        return predictions

    def _outputs(self, X: Any) -> tuple[Self, NDArray[Any], Tensor]:
        """What was fitted, the validated X, and the outputs in its dtype.

        These are (n, n_network_outputs), or (n, n_estimators, n_network_outputs). All by one state
        of the estimator: fits of other threads may replace it meanwhile.

        Made a chunk of rows at a time. Of ``working_memory`` MiB, an eighth is for the rows of a
        chunk, an eighth for generated weights that are kept from one chunk to the next, if all
        fit in; the layers need at most three quarters of what they are given for a training step.
        """
        check_is_fitted(self)
        fitted = self._working_copy()
        inputs, net = fitted.input_scaler_, fitted.net_
        stored = None if type(X) is np.ndarray else as_stored(X)
        X = fitted._validated(X) if stored is None else StoredRows(stored, fitted)
        memory = memory_for_rows(fitted)
        module: Any = inputs.with_means(net.module_) if inputs.has_unknown(X) else net.module_
        execution, dtype = net.execution_, torch.float64 if X.dtype == np.float64 else torch.float32
        members = (module.n_members,) if module.n_members > 1 else ()
        outputs = torch.empty(len(X), *members, module.out_features, dtype=dtype)
        # In X's units, scaled, and on their way through a layer.
        step = max(1, int(memory / 8 / (8 * 2 * module.widest_layer)))
        place = execution.device, execution.dtype
        numbers = min(step, len(X)) * module.widest_features
        with torch.inference_mode(), execution.active(numbers):
            if len(X) <= FewRows.most and module is net.module_:
                module = net.for_few_rows()
            elif step < len(X) and n_frozen(module, linear=False) * 8 <= memory / 8:
                module = frozen(module, linear=False)

            def compute(chunk: slice) -> None:
                outputs[chunk] = module(inputs.tensor(Rows(X[chunk], None, X[chunk], None), *place))

            by_chunks(len(X), step, compute)
        fitted._check_held(X, outputs.isfinite().numpy())
        return fitted, X, outputs

    def _check_held(self, X: NDArray[Any], finite: NDArray[np.bool_]) -> None:
        """Raise for rows so far beyond the training range that there are no numbers for them."""
        if finite.all():
            return
        row = int(finite.reshape(len(finite), -1).all(1).argmin())
        inputs = self.input_scaler_
        column = inputs.farthest_column(X[row])
        if column is not None:
            low, high = inputs.ranges_[:, column]
            raise ValueError(
                f"The prediction for row {row} of X is too large to be held: "
                f"{inputs.called(column)} is {X[row][column]:.4g} there, and was from {low:.4g} to "
                f"{high:.4g} in training. Clip or drop such rows, or set extrapolation='constant'."
            )

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
            In columns of categories, X holds positions in ``categories_``, and -1 for others; what
            is missing is NaN. Inputs are not checked.
        """
        check_is_fitted(self)
        fitted = self._working_copy()
        inputs, network = fitted.input_scaler_, fitted.module_
        return Predictor(inputs, inputs.with_means(network), fitted.target_).eval()

    def summary(self) -> str:
        """The network's layers and trainable numbers, as a text.

        Returns
        -------
        str
            One line a layer: inputs and outputs of a member; of all members edges, functions
            that an edge combines, and numbers of its own, without those of meta-learners. Then
            the sum, and what a KAN (coefficients of its own) and an MLP of the same widths would
            have.

        Raises
        ------
        NotFittedError
        """
        check_is_fitted(self)
        return summary(self)

    @property
    def module_(self) -> KANNetwork:
        """The plain torch module: scaled inputs in, raw outputs out."""
        check_is_fitted(self)
        return self.net_.module_

    @property
    def n_parameters_(self) -> int:
        """Trainable numbers of the network."""
        return sum(parameter.numel() for parameter in self.module_.parameters())

    @property
    def target_scaler_(self) -> NumberTarget:
        """The scaling of a regressor's target."""
        target = vars(self).get("target_")
        if not isinstance(target, NumberTarget):
            raise AttributeError(f"{type(self).__name__} has no target_scaler_ (yet).")
        return target

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """Share of the outputs' spread due to each feature, interactions included.

        Total Sobol indices, computed when asked, on rows drawn column by column from the
        training data's quantiles; see ``sklearn_metakan.nn.feature_importances``. Columns that
        were constant in training have none.
        """
        if not issubclass(self._inputs_type, TableInputs):
            raise AttributeError(f"{type(self).__name__} has no feature_importances_.")
        check_is_fitted(self)
        fitted = self._working_copy()
        found = np.zeros(fitted.n_features_in_)
        network = fitted.input_scaler_.with_means(fitted.module_)
        importances = feature_importances(network, *typical_inputs(fitted))
        found[fitted.input_scaler_.kept_] = importances.double().cpu().numpy()
        return found

    def __sklearn_is_fitted__(self) -> bool:
        return "net_" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = getattr(self, "loss", None) == "poisson"
        of_images = self._inputs_type.of_images
        tags.input_tags.three_d_array = of_images
        tags.input_tags.allow_nan = tags.input_tags.categorical = not of_images
        return tags

    def _unpacked_module(self) -> nn.Module:
        """The network as it was made, for numbers from a pickle."""
        return self._make_network(**self._network | {"init": None})

    def _try_out(self) -> None:
        """Predict one row, of a loaded estimator; parts that contradict each other raise."""
        row, execution = self.input_scaler_.first_row(), self.net_.execution_
        with torch.inference_mode():
            place = execution.device, execution.dtype
            outputs = self.module_(self.input_scaler_.tensor(Rows(row, None, row, None), *place))
            self.target_.predictions(outputs.cpu())
