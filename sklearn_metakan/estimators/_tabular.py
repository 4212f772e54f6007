"""What the four estimators for tables share: the scaling of columns, and a dense network."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_metakan.basis import quantile_knots
from sklearn_metakan.estimators._estimator import DataEstimator
from sklearn_metakan.estimators._inference import importances
from sklearn_metakan.estimators._parameters import TABULAR_CONSTRAINTS
from sklearn_metakan.estimators._rows import Rows, to_tensor
from sklearn_metakan.estimators._scaling import InputScaler, column_ranges
from sklearn_metakan.estimators._to_torch import ScaledInputs
from sklearn_metakan.training import check_widths

LARGEST_UNSCALED = 1e100  # starting values take moments of silu, whose squares must not overflow


class TabularKAN(DataEstimator):
    """Common base of the regressors and classifiers of tables; not for use on its own."""

    _parameter_constraints: ClassVar[dict[str, Any]] = TABULAR_CONSTRAINTS

    def _check_parameters(self) -> None:
        check_widths("hidden_layer_sizes", self.hidden_layer_sizes)
        super()._check_parameters()

    def _start(self, rows: Rows, seed: int) -> None:
        execution = self._choose_execution(rows.X.dtype)
        self.input_scaler_ = InputScaler(self.scale_inputs).fit(rows.X, rows.weight)
        self._start_target(rows)
        sizes = [rows.X.shape[1], *map(int, self.hidden_layer_sizes), self._n_network_outputs]
        shape = {"layer_sizes": sizes, "knots": self._knots(rows)}
        self._build(shape, execution, seed)

    def _knots(self, rows: Rows) -> Any:
        if self.knots == "uniform" and self.scale_inputs in ("auto", "minmax", "quantile"):
            return (-1.0, 1.0)
        scaled = self.input_scaler_.transform(rows.X)
        if self.knots == "quantile":
            return quantile_knots(scaled, self.grid_size, rows.weight)
        largest = np.abs(scaled).max()
        if largest > LARGEST_UNSCALED:
            raise ValueError(
                f"X holds numbers as large as {largest:.1e}, too large for scale_inputs=None; "
                "use scale_inputs='auto'."
            )
        return np.stack(column_ranges(scaled), axis=1)

    def _fixed_settings(self) -> dict[str, Any]:
        widths = {"hidden_layer_sizes": tuple(self.hidden_layer_sizes)}
        return super()._fixed_settings() | widths

    def _inputs(self, X: NDArray[Any]) -> Tensor:
        return to_tensor(self.input_scaler_.transform(X), self._execution)

    def _torch_inputs(self) -> nn.Module:
        return ScaledInputs(self.input_scaler_)

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """Share of the outputs' spread due to each feature, interactions included.

        Total Sobol indices, computed when asked, on rows drawn column by column from the
        training data's quantiles; see ``sklearn_metakan.nn.feature_importances``.
        """
        check_is_fitted(self)
        return importances(self.module_, self.input_scaler_, self._execution)
