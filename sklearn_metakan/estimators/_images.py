"""What the estimators for images share: the shape of X, and a convolutional network."""

from math import prod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Tags
from torch import Tensor, nn

from sklearn_metakan.estimators._estimator import DataEstimator
from sklearn_metakan.estimators._image_input import (
    Layout,
    PixelScaling,
    find_layout,
)
from sklearn_metakan.estimators._parameters import IMAGE_CONSTRAINTS
from sklearn_metakan.estimators._rows import Rows, to_tensor
from sklearn_metakan.nn import build_conv_network, spread_strides
from sklearn_metakan.training import check_widths


class ImageKAN(DataEstimator):
    """Common base of the estimators of images; not for use on its own.

    Within, rows are flat, as they came: nothing is copied but the pixels of a batch.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = IMAGE_CONSTRAINTS
    _make_module = staticmethod(build_conv_network)
    adamw_learning_rate = 0.05
    adamw_passes = (10, 60)
    _of_training = DataEstimator._of_training | {"augment"}
    _dtypes: ClassVar[list[type]] = [np.float64, np.float32, np.uint8]
    _of_images: ClassVar[bool] = True
    _layout: Layout | None
    image_shape_: tuple[int, int, int]

    def _check_parameters(self) -> None:
        check_widths("hidden_channels", self.hidden_channels)
        super()._check_parameters()
        if len(self.hidden_channels) == 0:
            raise ValueError("hidden_channels must name at least one width, got none.")
        if not isinstance(self.strides, Integral):
            check_widths("strides", self.strides)
        spread_strides(self._network_settings()["strides"], len(self.hidden_channels))
        if self.image_shape is not None:
            check_widths("image_shape", self.image_shape)
            if len(self.image_shape) not in (2, 3):
                raise ValueError(
                    "image_shape must be (height, width), (channels, height, width) or, with "
                    f"channels_last=True, (height, width, channels), got {self.image_shape!r}."
                )
        if self.solver == "lbfgs" and self.augment is not None:
            raise ValueError(
                f"augment={self.augment!r} contradicts solver='lbfgs', whose line search needs a "
                "loss that repeats. Set augment=None or solver='adamw'."
            )

    def _network_settings(self) -> dict[str, Any]:
        strides = self.strides
        return super()._network_settings() | {
            "hidden_channels": tuple(map(int, self.hidden_channels)),
            "strides": int(strides) if isinstance(strides, Integral) else tuple(map(int, strides)),
            "kernel_size": self.kernel_size,
            "norm": self.norm,
            "augment": self.augment,
        }

    # --- data -------------------------------------------------------------------------

    def _as_table(self, X: Any, reset: bool) -> Any:
        n_axes = getattr(X, "ndim", 2)
        if reset:
            self._layout = None
        else:
            self._check_several(getattr(X, "shape", ()))
        if n_axes < 3:
            return X  # as wide as validation finds it
        if n_axes > 4:
            raise ValueError(
                "X must have the shape (n, height, width), (n, channels, height, width) or "
                f"(n, pixels), got {tuple(X.shape)}."
            )
        self._set_layout(X.shape, reset)
        return np.reshape(X, (len(X), int(np.prod(X.shape[1:]))))

    def _check_several(self, shape: tuple[int, ...]) -> None:
        """Raise for one image by itself."""
        assert self._layout is not None
        one = len(shape) > 1 and tuple(shape) in (self._layout.shape, self.image_shape_)
        if one and prod(shape[1:]) != self.n_features_in_:
            raise ValueError(
                f"X is one image, of shape {tuple(shape)}, but {type(self).__name__} takes an "
                "array of them. Pass X[None]."
            )

    def _check_table(self, X: NDArray[Any], reset: bool) -> None:
        if self._layout is None:
            self._set_layout(X.shape, reset=True)
        if not reset and (X.dtype == np.uint8) != (self._data_dtype == np.uint8):
            raise ValueError(
                f"X has dtype {X.dtype}, but {type(self).__name__} was fitted with "
                f"{self._data_dtype}, and uint8 is divided by 255. Convert X to the dtype, and "
                "the range, of the images in fit."
            )

    def _set_layout(self, shape: tuple[int, ...], reset: bool) -> None:
        """The layout of a row, or a check that it is that of the fit."""
        if reset:
            self._layout = find_layout(shape, self.image_shape, self.channels_last)
            self.image_shape_ = self._layout.image_shape
            return
        assert self._layout is not None
        found = Layout(tuple(shape[1:]), self._layout.channels_last)
        if found.image_shape != self.image_shape_:
            raise ValueError(
                f"X holds images of (channels, height, width) = {found.image_shape}, but "
                f"{type(self).__name__} was fitted with {self.image_shape_}, "
                f"channels_last={self._layout.channels_last}."
            )

    def _start(self, rows: Rows, seed: int) -> None:
        execution = self._choose_execution(rows.X.dtype)
        images = self._images(rows.X)
        scaling = PixelScaling.of(images, rows.weight, self.scale_inputs)
        self.input_scaler_ = scaling
        self._start_target(rows)
        shape = {
            "image_shape": self.image_shape_,
            "n_outputs": self._n_network_outputs,
            "pixel_centre": scaling.centre,
            "pixel_scale": scaling.scale,
            "knots": scaling.knots(images, rows.weight, self.knots, self.grid_size),
        }
        self._build(shape, execution, seed)

    def _images(self, X: NDArray[Any]) -> NDArray[Any]:
        assert self._layout is not None
        return self._layout.images(X)

    def _inputs(self, X: NDArray[Any]) -> Tensor:
        return to_tensor(self._images(X), self._execution)

    def _torch_inputs(self) -> nn.Module:
        assert self._layout is not None
        return Images(self._layout)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class Images(nn.Module):
    """Rows, or images as ``fit`` took them -> (n, channels, height, width)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        return self.layout.images(x)
