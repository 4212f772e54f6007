"""Images, as a network takes them: the shape that an array of them has, the scale of pixels."""

from collections.abc import Iterator
from math import isqrt, prod
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.basis import quantile_knots
from sklearn_metakan.estimators.inputs.checks import as_array
from sklearn_metakan.estimators.inputs.columns import ColumnReader
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.scaling import FittedModule
from sklearn_metakan.nn import ConvKAN, spread_strides
from sklearn_metakan.training import check_widths, warn_caller

_CHANNELS = (1, 3, 4)
_CHUNK = 1024  # images
_DARK = 32  # bytes below it are hardly pixels from 0 to 255
_SAMPLED = 2**17  # pixels of a channel that quantile knots are taken from


class Layout(NamedTuple):
    """How an image lies in a row of a table.

    Attributes
    ----------
    shape : (height, width), (channels, height, width) or, with channels last, (h, w, c)
    channels_last : bool
    """

    shape: tuple[int, ...]
    channels_last: bool

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        if len(self.shape) == 2:
            return 1, self.shape[0], self.shape[1]
        first, second, third = self.shape
        return (third, first, second) if self.channels_last else (first, second, third)

    def images(self, X: Any) -> Any:
        """Rows (n, c * h * w) of an array or a tensor as (n, c, h, w)."""
        if len(self.shape) == 3 and self.channels_last:
            X = X.reshape(X.shape[0], *self.shape)
            return X.permute(0, 3, 1, 2) if isinstance(X, Tensor) else X.transpose(0, 3, 1, 2)
        return X.reshape(X.shape[0], *self.image_shape)


def find_layout(
    shape: tuple[int, ...], image_shape: tuple[int, ...] | None, channels_last: bool
) -> Layout:
    """From the shape of X, images or a table of pixels, and from the parameters.

    Without ``image_shape``, a table of as many columns as a square has pixels holds squares.
    """
    declared = None
    if image_shape is not None:
        declared = Layout(tuple(int(side) for side in image_shape), channels_last)
    if len(shape) == 2:
        return _layout_of_columns(shape[1], declared)
    found = Layout(tuple(shape[1:]), channels_last)
    if declared is None:
        _check_channels(shape, channels_last)
    elif found.image_shape != declared.image_shape:
        raise ValueError(
            f"X holds images of shape {found.shape}, but image_shape={declared.shape}. Leave "
            "image_shape out, or set it to the shape of an image in X."
        )
    return found


def _layout_of_columns(width: int, declared: Layout | None) -> Layout:
    if declared is not None:
        if prod(declared.shape) != width:
            raise ValueError(
                f"image_shape={declared.shape} has {prod(declared.shape)} numbers, but X has "
                f"{width} columns. Set image_shape to the shape of the image in a row."
            )
        return declared
    side = isqrt(width)
    if side**2 == width:
        return Layout((side, side), False)
    warn_caller(
        f"X has {width} columns, which is no square: they are taken for images of one row, "
        f"(1, 1, {width}). Set image_shape=(channels, height, width), or pass X of shape "
        "(n, channels, height, width).",
        UserWarning,
    )
    return Layout((1, width), False)


def _check_channels(shape: tuple[int, ...], channels_last: bool) -> None:
    """Raise where an image seems to have its channels elsewhere."""
    if len(shape) != 4:
        return
    second, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if not channels_last and last and not second:
        raise ValueError(
            f"X has the shape {shape}, which looks like channels last. Call with "
            "X.transpose(0, 3, 1, 2), or set channels_last=True. If it is channels first, set "
            f"image_shape={shape[1:]}."
        )
    if channels_last and second and not last:
        raise ValueError(
            f"channels_last=True, but X has the shape {shape}, which looks like channels first. "
            "Call with X.transpose(0, 2, 3, 1), or set channels_last=False. If it is channels "
            f"last, set image_shape={shape[1:]}."
        )


class ImageInputs(FittedModule):
    """Rows of pixels, or images, as (n, channels, height, width); scaled by the network.

    What the network sees is ``(x - centre) * scale``, by channel. A channel that is constant in
    all images of training is left out. Rows stay flat, as they came: nothing is copied but the
    pixels of a batch.

    Parameters
    ----------
    kind : {"auto", "minmax", "standard", None}
        Every channel by itself. "minmax": the range onto [-1, 1]. "standard": mean 0, deviation
        1. None: unchanged, but for uint8, which is divided by 255. "auto": [0, 255] onto
        [-1, 1] for uint8, minmax for other numbers.
    image_shape : tuple of int or None
    channels_last : bool
    extrapolation : str, default="linear"
        With "error", a constant channel that moves raises a ValueError.

    Attributes
    ----------
    layout : Layout
    kept_ : ndarray of shape (n_kept,)
        The channels that vary. If none does, the first stands for all, as zero.
    centre, scale : ndarray of shape (n_kept,)
    ends : ndarray of shape (n_kept, 2)
        Of the scaled range.
    """

    dtypes: ClassVar[list[type]] = [np.float64, np.float32, np.uint8]
    of_images: ClassVar[bool] = True
    arguments: ClassVar[tuple[str, ...]] = (
        "scale_inputs",
        "image_shape",
        "channels_last",
        "extrapolation",
    )
    names = None  # of columns, which nobody gives to pixels
    dtype: Any = None  # of the images that it was fitted to

    def __init__(
        self,
        kind: str | None,
        image_shape: tuple[int, ...] | None,
        channels_last: bool,
        extrapolation: str = "linear",
    ) -> None:
        super().__init__()
        self.kind, self.image_shape, self.channels_last = kind, image_shape, channels_last
        self.layout: Any = None
        self.strict = extrapolation == "error"
        self.all_kept = True

    @staticmethod
    def layers(estimator: Any) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Channels of the hidden layers, and settings of the network, checked.

        Raises ValueError for parameters that make no network.
        """
        channels = check_widths("hidden_channels", estimator.hidden_channels)
        if not channels:
            raise ValueError("hidden_channels must name at least one width, got none.")
        strides = estimator.strides
        if isinstance(strides, Integral):
            strides = int(strides)
        else:
            strides = check_widths("strides", strides)
        spread_strides(strides, len(channels))
        shape = estimator.image_shape
        if shape is not None:
            check_widths("image_shape", shape)
            if len(shape) not in (2, 3):
                raise ValueError(
                    "image_shape must be (height, width), (channels, height, width) or, with "
                    f"channels_last=True, (height, width, channels), got {shape!r}."
                )
        if estimator.solver == "lbfgs" and estimator.augment is not None:
            raise ValueError(
                f"augment={estimator.augment!r} contradicts solver='lbfgs', whose line search "
                "needs a loss that repeats. Set augment=None or solver='adamw'."
            )
        others = {name: getattr(estimator, name) for name in ("kernel_size", "norm", "augment")}
        return channels, {"hidden_channels": channels, "strides": strides} | others

    @property
    def fitted(self) -> dict[str, Any]:
        """What the estimator shows of it."""
        return {"image_shape_": self.layout.image_shape}

    def as_table(self, X: Any, name: str, reset: bool = False) -> Any:
        """X with two axes, as validation takes it; fixes the shape of an image if ``reset``.

        Raises ValueError for other shapes than those of images, or than those of the fit.
        """
        return ColumnReader(of_pixels=True).read(self._as_rows(as_array(X), name, reset), name)

    def _as_rows(self, X: Any, name: str, reset: bool) -> Any:
        """X with two axes."""
        n_axes, shape = getattr(X, "ndim", 2), tuple(getattr(X, "shape", ()))
        if not reset:
            one = len(shape) > 1 and shape in (self.layout.shape, self.layout.image_shape)
            if one and prod(shape[1:]) != prod(self.layout.shape):
                raise ValueError(
                    f"X is one image, of shape {shape}, but {name} takes an array of them. "
                    "Pass X[None]."
                )
        if n_axes < 3:
            return X  # as wide as validation finds it
        if n_axes > 4:
            raise ValueError(
                "X must have the shape (n, height, width), (n, channels, height, width) or "
                f"(n, pixels), got {shape}."
            )
        if reset:
            self.layout = find_layout(shape, self.image_shape, self.channels_last)
        else:
            found = Layout(shape[1:], self.layout.channels_last).image_shape
            if found != self.layout.image_shape:
                raise ValueError(
                    f"X holds images of (channels, height, width) = {found}, but {name} was "
                    f"fitted with {self.layout.image_shape}, "
                    f"channels_last={self.layout.channels_last}."
                )
        return np.reshape(X, (len(X), prod(shape[1:])))

    def check_table(self, X: NDArray[Any], name: str) -> None:
        """Fix the shape of an image, of a first table of flat ones.

        Raises ValueError for numbers that are not finite, and bytes in place of numbers or back.
        """
        if self.layout is None:
            self.layout = find_layout(X.shape, self.image_shape, self.channels_last)
        if self.dtype is not None and (X.dtype == np.uint8) != (self.dtype == np.uint8):
            raise ValueError(
                f"X has dtype {X.dtype}, but {name} was fitted with {self.dtype}, and uint8 is "
                "divided by 255. Convert X to the dtype, and the range, of the images in fit."
            )
        if X.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                is_finite = np.isfinite(X.sum()) or np.isfinite(X).all()
            if not is_finite:
                bad = np.isnan(X)
                what = "NaN" if bad.any() else f"infinity (inf) or numbers too large for {X.dtype}"
                bad = bad if bad.any() else ~np.isfinite(X)
                raise ValueError(
                    f"Input X contains {what} in {int(bad.any(axis=1).sum())} of {len(X)} images; "
                    f"{name} needs finite numbers. Replace such pixels or drop those images."
                )

    def fit(self, rows: Rows, dtype: torch.dtype = torch.float64, n_rows: int = 0) -> Self:
        """Find the range or the moments of every channel."""
        whole = rows.X.dtype == np.uint8
        low, high = self._ranges(rows)
        if whole and self.kind in ("auto", None) and high.max() < _DARK:
            warn_caller(
                f"X is uint8, taken for pixels from 0 to 255, but holds nothing above "
                f"{high.max():.0f}. Convert it to float, which is scaled by its own range.",
                UserWarning,
            )
        self.ranges_ = np.stack([low, high])
        varies = high / 2 - low / 2 > 1e-12 * np.maximum(abs(low), abs(high)) / 2
        self.kept_ = np.flatnonzero(varies) if varies.any() else np.array([0])
        self.all_kept = len(self.kept_) == len(low)
        low, high = low[self.kept_], high[self.kept_]
        if whole and self.kind == "auto":
            low, high = np.zeros_like(low), np.full_like(high, 255.0)
        if not varies.any():
            self.centre, self.scale = low, np.zeros(1)
            self.ends = np.array([[-1.0, 1.0]])
            return self
        if self.kind is None:
            self.centre = np.zeros_like(low)
            self.scale = np.full_like(low, 1 / 255 if whole else 1.0)
        elif self.kind == "standard":
            self.centre = self._average(rows, 0.0, 1)
            self.scale = 1 / np.sqrt(self._average(rows, self.centre, 2))
        else:
            self.centre, self.scale = low / 2 + high / 2, 1 / (high / 2 - low / 2)
        ends = (low - self.centre) * self.scale, (high - self.centre) * self.scale
        self.ends = np.stack(ends, axis=1)
        return self

    def network_shape(
        self, rows: Rows, estimator: Any, widths: tuple[int, ...], n_outputs: int
    ) -> dict[str, Any]:
        """What the network is told of its inputs and outputs."""
        knots = self.ends
        if estimator.knots == "quantile":
            knots = self._quantile_knots(rows, estimator.grid_size)
        return {
            "image_shape": (len(self.kept_), *self.layout.image_shape[1:]),
            "n_outputs": n_outputs,
            "pixel_centre": self.centre,
            "pixel_scale": self.scale,
            "knots": knots,
        }

    def forward(self, x: Tensor) -> Tensor:
        images = self.layout.images(x)
        if self.all_kept:
            return images
        if self.strict:
            for channel in np.setdiff1d(np.arange(images.shape[1]), self.kept_):
                if bool((images[:, channel] != self.ranges_[0, channel]).any()):
                    raise ValueError(
                        f"In training channel {channel} was constant; that it has another value "
                        'now, extrapolation="error" forbids. Use another extrapolation.'
                    )
        return images[:, self.kept_.tolist()]

    def tensor(
        self, rows: Rows, device: torch.device, dtype: torch.dtype, trains: bool = False
    ) -> Tensor:
        """Images (n, n_kept, height, width); bytes stay bytes."""
        pixels = np.ascontiguousarray(rows.chosen())
        images = self(torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()))
        images = images.to(device)
        return images.to(dtype) if images.is_floating_point() else images

    def has_unknown(self, X: NDArray[Any]) -> bool:
        """Pixels cannot be missing."""
        return False

    def with_means(self, network: ConvKAN) -> ConvKAN:
        """The network as it is: nothing is missing in images."""
        return network

    def first_row(self) -> NDArray[Any]:
        """An image as in training, all of each channel's smallest number, (1, pixels)."""
        darkest = self.ranges_[0].astype(self.dtype)[:, None, None]
        image = np.broadcast_to(darkest, self.layout.image_shape)
        last = self.layout.channels_last and len(self.layout.shape) == 3
        return (image.transpose(1, 2, 0) if last else image).reshape(1, -1)

    def beyond(self, rows: Rows) -> None:
        """Images of validation are not looked at."""

    def farthest_column(self, row: NDArray[Any]) -> int | None:
        """No column of pixels is said to lie far out."""
        return None

    def _ranges(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest number of every channel."""
        found = []
        for chunk in _chunks(len(rows)):
            images = self.layout.images(rows.chosen(chunk))
            found.append([images.min(axis=(0, 2, 3)), images.max(axis=(0, 2, 3))])
        ends = np.array(found, dtype=np.float64)
        return ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)

    def _average(self, rows: Rows, centre: Any, power: int) -> NDArray[np.float64]:
        """Weighted mean of a power of the pixels of each kept channel."""
        weight = np.ones(len(rows)) if rows.weight is None else rows.weight
        centre, total = np.reshape(centre, (-1, 1, 1)), 0.0
        for chunk in _chunks(len(rows)):
            images = self.layout.images(rows.chosen(chunk))[:, self.kept_].astype(np.float64)
            total = total + weight[chunk] @ ((images - centre) ** power).mean(axis=(2, 3))
        return np.asarray(total / weight.sum())

    def _quantile_knots(self, rows: Rows, grid_size: int) -> NDArray[np.float64]:
        """Quantiles of some of the pixels."""
        height, width = self.layout.image_shape[1:]
        n = len(rows)
        count = min(n, max(1, _SAMPLED // (height * width)))
        some = np.linspace(0, n - 1, count).round().astype(int)
        images = self.layout.images(rows.take(some).chosen())[:, self.kept_]
        pixels = images.astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, len(self.kept_))
        weight = None if rows.weight is None else np.repeat(rows.weight[some], height * width)
        return quantile_knots((pixels - self.centre) * self.scale, grid_size, weight)


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))
