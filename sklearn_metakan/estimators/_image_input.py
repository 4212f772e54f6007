"""Images in: the shape that an array of them has, and how their pixels are scaled."""

from collections.abc import Iterator
from math import isqrt, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.basis import quantile_knots
from sklearn_metakan.estimators._scaling import column_ranges
from sklearn_metakan.training import warn_caller

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
            X = X.reshape(len(X), *self.shape)
            return X.permute(0, 3, 1, 2) if isinstance(X, Tensor) else X.transpose(0, 3, 1, 2)
        return X.reshape(len(X), *self.image_shape)


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


class PixelScaling(NamedTuple):
    """``(x - centre) * scale`` by channel, and the ends of the scaled range (channels, 2)."""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    ends: NDArray[np.float64]

    @classmethod
    def of(
        cls, images: NDArray[Any], weight: NDArray[Any] | None, kind: str | None
    ) -> "PixelScaling":
        """For images (n, c, h, w), every channel by itself.

        "minmax": the range onto [-1, 1]. "standard": mean 0, deviation 1. None: unchanged,
        but for uint8, which is divided by 255. "auto": [0, 255] onto [-1, 1] for uint8, minmax
        for other numbers.
        """
        whole = images.dtype == np.uint8
        low = images.min(axis=(0, 2, 3)).astype(np.float64)
        high = images.max(axis=(0, 2, 3)).astype(np.float64)
        if whole and kind in ("auto", None) and high.max() < _DARK:
            warn_caller(
                f"X is uint8, taken for pixels from 0 to 255, but holds nothing above "
                f"{high.max():.0f}. Convert it to float, which is scaled by its own range.",
                UserWarning,
            )
        if whole and kind == "auto":
            low, high = np.zeros_like(low), np.full_like(high, 255.0)
        low, high = column_ranges(np.stack([low, high]))
        if kind is None:
            centre, scale = np.zeros_like(low), np.full_like(low, 1 / 255 if whole else 1.0)
        elif kind == "standard":
            centre, deviation = _moments(images, weight)
            scale = 1 / np.where(deviation > 0, deviation, 1.0)
        else:
            centre, scale = low / 2 + high / 2, 1 / (high / 2 - low / 2)
        ends = np.stack([(low - centre) * scale, (high - centre) * scale], axis=1)
        return cls(centre, scale, ends)

    def knots(
        self,
        images: NDArray[Any],
        weight: NDArray[Any] | None,
        kind: str,
        grid_size: int,
    ) -> NDArray[np.float64]:
        """Of the first layer: ends of the range, or quantiles of some of the pixels."""
        if kind == "uniform":
            return self.ends
        n, channels, h, w = images.shape
        count = min(n, max(1, _SAMPLED // (h * w)))
        some = np.linspace(0, n - 1, count).round().astype(int)
        pixels = images[some].astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, channels)
        by_pixel = None if weight is None else np.repeat(weight[some], h * w)
        return quantile_knots((pixels - self.centre) * self.scale, grid_size, by_pixel)


def _moments(
    images: NDArray[Any], weight: NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and deviation of each channel."""
    weight = np.ones(len(images)) if weight is None else weight
    mean = _average(images, weight, 0.0, 1)
    return mean, np.sqrt(_average(images, weight, mean, 2))


def _average(
    images: NDArray[Any], weight: NDArray[Any], centre: Any, power: int
) -> NDArray[np.float64]:
    centre = np.reshape(centre, (-1, 1, 1))
    total = sum(
        weight[rows] @ ((images[rows].astype(np.float64) - centre) ** power).mean(axis=(2, 3))
        for rows in _chunks(len(images))
    )
    return np.asarray(total / weight.sum())


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))
