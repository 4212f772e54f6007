"""KANs for classification of images."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from sklearn.base import ClassifierMixin
from torch import Tensor

from sklearn_metakan.estimators.classifiers import (
    decision_function,
    label_names,
    partial_fit,
    predict_log_proba,
    predict_proba,
    tags_of_classifiers,
)
from sklearn_metakan.estimators.estimator import KANEstimator
from sklearn_metakan.estimators.inputs.images import ImageInputs
from sklearn_metakan.estimators.parameters import document
from sklearn_metakan.estimators.targets.labels import LabelTarget
from sklearn_metakan.nn import build_conv_network
from sklearn_metakan.training import Defaults


@document
@dataclass(eq=False, repr=False)
class KANImageClassifier(ClassifierMixin, KANEstimator):
    """Classification of images with a convolutional Kolmogorov-Arnold network.

    ``y_o(t) = sum_ik phi_oik(x_i(t + k))`` in every layer, k a position in the kernel: each
    number of a kernel is a sum of basis functions whose coefficients are trained.

    Parameters
    ----------
    {TUNE_FIRST_IMAGES}
    {METHOD_IMAGES}
    {CLASS_WEIGHT}
    {TRAINING}

    Attributes
    ----------
    {CLASSES}
    {ATTRIBUTES}

    See Also
    --------
    MetaKANImageClassifier : Generated coefficients: fewer trainable numbers.
    KANClassifier : For tables.

    References
    ----------
    {PAPER}
    Drokin, "Kolmogorov-Arnold Convolutions", 2024, arXiv 2407.01092.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_metakan import KANImageClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:500].reshape(-1, 8, 8), y[:500]
    >>> model = KANImageClassifier(max_iter=20, random_state=0).fit(X, y)
    >>> model.image_shape_
    (1, 8, 8)
    >>> bool(model.score(X, y) > 0.8)
    True
    """

    hidden_channels: Sequence[int] = (8, 16)
    _: KW_ONLY
    strides: int | tuple[int, ...] = 2
    kernel_size: int = 3
    norm: str | None = None
    augment: str | Callable[[Tensor], Tensor] | None = None
    image_shape: tuple[int, ...] | None = None
    channels_last: bool = False
    grid_size: int = 5
    degree: int = 3
    class_weight: dict[Any, float] | str | None = None
    batch_size: int = 256

    _inputs_type, _target_type = ImageInputs, LabelTarget
    _make_network = staticmethod(build_conv_network)
    _defaults = Defaults(learning_rate=0.05, weight_decay=0.1, passes=(10, 60))
    predict_proba, predict_log_proba = predict_proba, predict_log_proba
    decision_function, partial_fit = decision_function, partial_fit
    label_names_, __sklearn_tags__ = label_names, tags_of_classifiers


@document
@dataclass(eq=False, repr=False)
class MetaKANImageClassifier(ClassifierMixin, KANEstimator):
    """Classification of images with a convolutional KAN whose edges a meta-learner generates.

    ``y_o(t) = sum_ik phi_oik(x_i(t + k))`` in every layer, k a position in the kernel; the
    coefficients of each phi come from a small meta-learner, ``w_oik = a_oik M(z_oik)``, so that
    an edge costs a prompt of p numbers (and a factor with edge_scale) in place of C.

    Parameters
    ----------
    {TUNE_FIRST_IMAGES}
    {METHOD_IMAGES}
    {CLASS_WEIGHT}
    {META}
    {TRAINING}

    Attributes
    ----------
    {CLASSES}
    {ATTRIBUTES}

    See Also
    --------
    KANImageClassifier : Every edge with its own coefficients.
    MetaKANClassifier : For tables.

    References
    ----------
    {PAPER}
    Drokin, "Kolmogorov-Arnold Convolutions", 2024, arXiv 2407.01092.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_metakan import MetaKANImageClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:500].reshape(-1, 8, 8), y[:500]
    >>> model = MetaKANImageClassifier(max_iter=20, random_state=0).fit(X, y)
    >>> model.image_shape_
    (1, 8, 8)
    >>> bool(model.score(X, y) > 0.8)
    True
    """

    hidden_channels: Sequence[int] = (8, 16)
    _: KW_ONLY
    strides: int | tuple[int, ...] = 2
    kernel_size: int = 3
    norm: str | None = None
    augment: str | Callable[[Tensor], Tensor] | None = None
    image_shape: tuple[int, ...] | None = None
    channels_last: bool = False
    grid_size: int = 5
    degree: int = 3
    class_weight: dict[Any, float] | str | None = None
    prompt_dim: int = 1
    meta_hidden_dim: int = 32
    meta_activation: str = "sin"
    edge_scale: bool = True
    n_meta_learners: int | str = "auto"
    prompt_learning_rate: float | None = None
    meta_learning_rate: float | None = None
    batch_size: int = 256

    _inputs_type, _target_type = ImageInputs, LabelTarget
    _make_network = staticmethod(build_conv_network)
    _defaults = Defaults(learning_rate=0.05, weight_decay=0.1, passes=(10, 60))
    predict_proba, predict_log_proba = predict_proba, predict_log_proba
    decision_function, partial_fit = decision_function, partial_fit
    label_names_, __sklearn_tags__ = label_names, tags_of_classifiers
