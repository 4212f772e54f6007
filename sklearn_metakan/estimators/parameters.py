"""Constructor parameters of the estimators: which values they may take, and their docs."""

from inspect import signature
from numbers import Integral, Real
from typing import Any, TypeVar, get_args

from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_metakan.nn import Augmentation, Norm
from sklearn_metakan.training import (
    COUNT,
    META_CONSTRAINTS,
    NOT_NEGATIVE,
    SHARED_CONSTRAINTS,
    WIDTHS,
    fill_docstring,
)

T = TypeVar("T", bound=Any)

CONSTRAINTS: dict[str, list[Any]] = {
    **SHARED_CONSTRAINTS,
    **META_CONSTRAINTS,
    **{name: [StrOptions({"auto"}), *SHARED_CONSTRAINTS[name]] for name in ("grid_size", "degree")},
    "max_iter": [StrOptions({"auto"}), COUNT],
    "time_limit": [Interval(Real, 0, 1e9, closed="neither"), None],
    "sparsity": [Interval(Real, 0, 1e4, closed="both")],
    "knots": [StrOptions({"uniform", "quantile"})],
    "extrapolation": [StrOptions({"linear", "base", "constant", "error"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "solver": [StrOptions({"adamw", "lbfgs", "reml"})],
    "batch_size": [StrOptions({"auto"}), COUNT],
    "tol": [NOT_NEGATIVE],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "validation_split": ["cv_object"],
    "scoring": [str, callable, None],
    "n_iter_no_change": [StrOptions({"auto"}), COUNT],
    "scale_inputs": [StrOptions({"auto", "minmax", "standard", "quantile"}), None],
    "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
    "min_frequency": [COUNT, Interval(Real, 0, 1, closed="neither"), None],
    "hidden_layer_sizes": [object],  # check_widths explains what is wrong
    "interactions": [Interval(Integral, 0, None, closed="left"), "array-like"],
    "monotonic_cst": ["array-like", dict, None],
    "n_estimators": [Interval(Integral, 1, 1_000, closed="both")],
    "hidden_channels": WIDTHS,
    "strides": [COUNT, "array-like"],
    "kernel_size": [Interval(Integral, 1, 10_000, closed="both")],
    "norm": [StrOptions(set(get_args(Norm))), None],
    "augment": [StrOptions(set(get_args(Augmentation))), callable, None],
    "image_shape": ["array-like", None],
    "channels_last": ["boolean"],
    "loss": [
        StrOptions({"squared_error", "absolute_error", "huber", "quantile", "poisson"}),
        callable,
    ],
    "quantile": [Interval(Real, 0, 1, closed="neither"), "array-like"],
    "scale_target": ["boolean"],
    "class_weight": [dict, list, StrOptions({"balanced"}), None],
}
OF_IMAGES_ALONE = {
    "scale_inputs": [StrOptions({"auto", "minmax", "standard"}), None],
    **{name: SHARED_CONSTRAINTS[name] for name in ("grid_size", "degree")},
    "batch_size": [COUNT],
}

HIDDEN_LAYERS = """\
    hidden_layer_sizes : tuple of int or "auto", default="auto"
        Widths of the hidden layers. "auto" is <widths>.
        ``()`` is the additive model: one function for each feature and output, and with
        ``interactions`` of two features.
    interactions : int or list of pairs, default=0
        For ``hidden_layer_sizes=()``: pairs of columns that also have a function of both, by name
        or number; or how many of them, those that explain most of what functions of one column
        leave. What one column does by itself is in none of them.
    monotonic_cst : array-like of shape (n_features,), dict or None, default=None
        For each column, or by name, 1 if predictions must not fall as it rises, -1 if they must
        not rise, 0; of classifiers the probability of the second of two classes. Exact, beyond the
        range of training too; with hidden layers, by functions that rise in all later ones.
    n_estimators : int, default=<n_estimators>
        Members: networks of these widths, trained in the same calls and averaged. They share
        grids and meta-learners and have edges of their own; with early stopping each holds out
        rows of its own. Members with coefficients of their own are kept each at its best
        iteration, those of a meta-learner together.
"""

HIDDEN_CHANNELS = """\
    hidden_channels : tuple of int, default=<hidden_channels>
        Channels after each convolution; their means over the image go into a linear layer.
    strides : int or tuple of int, default=<strides>
        Of every convolution, or of each: 2 halves height and width.
    kernel_size : int, default=<kernel_size>
        Pixels of a side of the kernels; images are padded by half of it.
    norm : {"batch", "instance", "layer", None}, default=<norm>
        After each convolution, by statistics over the batch and the pixels of a channel; over
        the pixels of a channel of an image; or over all channels and pixels of an image.
        ``net_params={"module__norm_order": "before"}`` normalises the inputs in place of the
        outputs, ``"module__activation": "prelu"`` adds a PReLU to each layer.
    augment : {"flip", "crop", "flip_crop", None} or callable, default=None
        Random changes of images in training: mirrored left to right; padded with zeros by an
        eighth of a side on either end and cut to size; both; or what a callable makes of a
        tensor (n, channels, height, width) in the units of X.
    image_shape : tuple of int, default=None
        Shape of an image: (height, width), (channels, height, width) or, with channels_last,
        (height, width, channels). None: as in X of shape (n, height, width) or (n, channels,
        height, width); for X of shape (n, columns) a square of one channel, or else one row of
        pixels, with a warning.
    channels_last : bool, default=False
        Whether the channels are X's last axis.
"""

TUNE_FIRST = """\
    grid_size : int<or_auto>, default=<grid_size>
        Cells of the grid: more cells, finer functions. Without effect on polynomials. It may
        grow from one fit to the next with ``warm_start=True``.<auto_grid>
    learning_rate : float or "auto", default="auto"
        Largest step size. "auto" is <adamw_learning_rate> for "adamw" and 1.0 for
        "lbfgs".
    max_iter : int or "auto", default="auto"
        Passes over the data; for "lbfgs", iterations. "auto" is
        <passes>; 200
        iterations for "lbfgs".
    time_limit : float or None, default=None
        Seconds that a fit may train. The course of the learning rate is fitted to them.
    weight_decay : float or "auto", default="auto"
        Pull of all trainable numbers towards zero: decoupled in "adamw", where each step takes
        their learning rate times weight_decay off, of prompts with a higher rate more; for "lbfgs",
        ``0.5 * weight_decay * |parameters|^2`` in the loss. "auto" is
        <adamw_weight_decay> for "adamw" and 1e-7 for "lbfgs".<meta_decay>"""

METHOD = """\
    basis : str, default="bspline"
        The functions that an edge combines: "bspline", splines; "rbf", Gaussians at the knots
        of the grid (FastKAN); "mexican_hat", "morlet", "dog" or "shannon", wavelets of several
        scales over the grid (WavKAN); "chebyshev" or "gram", polynomials of tanh; "legendre",
        polynomials. All but "chebyshev" come with silu, wavelets with a constant.
    degree : int<or_auto>, default=<degree>
        Degree of splines and polynomials. Without effect on other functions.<auto_degree>
    knots : {"uniform", "quantile"}, default="uniform"
        Knots of the inputs: evenly spaced, or at quantiles of each column; the latter for
        splines alone.
    extrapolation : {"linear", "base", "constant", "error"}, default="linear"
        Beyond the grid: value and slope continued; the functions as they are there (splines,
        Gaussians and wavelets end and leave silu alone, tanh levels off; not for "legendre",
        which would explode); the value at the end; a ValueError.
    dropout : float in [0, 1), default=0.0
        Share of <dropped> left out at random in training."""

SPARSITY = """\
    sparsity : float in [0, 1e4], default=<sparsity>
        Adds ``sparsity * sum_l (sum m + entropy(m))`` to the loss, the sizes m of a layer's edges
        being their standard deviations, so that few edges do the work, which ``prune`` and
        ``symbolic_formula`` then find: from 1e-3 to 1e-2 for a target without noise. Held-out
        losses count it too. See ``sklearn_metakan.nn.Sparsity``.
"""

SCALE_INPUTS = """\
    scale_inputs : {"auto", "minmax", "standard", "quantile", None}, default="auto"
        Inside the estimator: range onto [-1, 1]; mean 0 and deviation 1; ranks onto
        [-1, 1]; unchanged, for columns of order one: the grid follows them, but silu and with
        it the steps of training are in their units. "auto" is minmax for columns spread evenly
        over their range, and the mean of minmax and quantile for the others; quantile for
        those of which most rows have one value and few the rest of a long range; minmax, beyond
        10,000 rows, for those without a tail, of which 98 % lie over nine tenths of the range.
        Where most rows have one value, others that 5 rows have, up to 64, get numbers of their
        own beside the curve.
    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Columns whose edges have a number for each level in place of a curve: those of a
        DataFrame that hold text, categories or truth values; a mask, indices or names; none.
    min_frequency : int, float or None, default=<min_frequency>
        Levels in fewer rows, or in a smaller share of them, are one level, with those
        that training did not see. None: all are levels of their own."""

SCALE_PIXELS = """\
    scale_inputs : {"auto", "minmax", "standard", None}, default="auto"
        Inside the estimator, each channel by itself: range onto [-1, 1]; mean 0 and deviation
        1; unchanged. "auto" is minmax, but for uint8 [0, 255] onto [-1, 1]. Images of dtype
        uint8 are divided by 255, and what is predicted must have the dtype of the fit."""

TRAINING = """\
    solver : {"adamw", "lbfgs", "reml"}, default="adamw"
        Mini-batches; or the whole table at once, for up to some thousand rows without noise; or,
        for a KAN with ``hidden_layer_sizes=()``, the exact solution, with the smoothness of each
        function chosen by restricted maximum likelihood (of few rows of labels, also by five
        folds): squared_error and labels, splines, no ``monotonic_cst``. Members are then draws of
        what is left open, and their mean is the same for any number of them.
    learning_rate_schedule : {"constant", "cosine", "exponential", "onecycle"}
        Course of the learning rate in "adamw"; default="onecycle".
    batch_size : int<or_auto>, default=<batch_size>
        Rows in a step of "adamw".<auto_batch>
    tol : float, default=1e-4
        An iteration counts as an improvement if the watched loss fell by more than tol
        times the best so far.
    early_stopping : bool or "auto", default="auto"
        Whether to hold rows out, stop when their loss no longer improves, and keep the best
        weights. "auto": with "adamw" and more than 200 rows, or if X_val is given.
    validation_fraction : float in (0, 1), default=0.1
        Share of rows held out.
    validation_split : int, splitter, iterable of (train, held out) rows or None, default=None
        Which rows are held out, as scikit-learn's ``cv``: a number of folds, a splitter such as
        GroupKFold, or pairs of row numbers. Members take the last splits, one each. None: at
        random, or with ``fit(..., groups=)`` whole groups.
    scoring : str, callable or None, default=None
        A metric of scikit-learn by name, or ``scorer(estimator, X, y)``, of which the highest on
        the held-out rows decides, in place of the lowest loss.
    n_iter_no_change : int or "auto", default="auto"
        Iterations without improvement before stopping. "auto" is 20, but lets "cosine" and
        "onecycle", whose best weights come late, run to their end.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present weights and scaling. Optimiser and schedule start
        anew: 10 passes and 10 more are not 20. Of what shapes the network,
        grid_size alone may change: it may grow, and training goes on from the same function on
        the finer grid, or the closest one (exactly, for splines, with a multiple of the cells).
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is some, but the CPU inside a joblib worker.
    precision : {"auto", "float64", "float32", "tf32", "bf16"}, default="auto"
        "auto" follows the dtype of X on a CPU up to 10,000 rows and is "float32" beyond; it
        is "tf32" on CUDA, and "float64" for "lbfgs".
    working_memory : float, default=None
        MiB that a layer may take for features and generated weights, made block by block,
        and that ``predict`` may take in all beside its output. None: 32 a layer on a CPU, about
        what a layer's own numbers take on a card, and 64 in ``predict``. On a card that is full,
        it is halved down to 1, then batches are computed in parts, with one warning.
    random_state : int, RandomState or None, default=None
        Starting values, shuffling, held-out rows and dropout. Global generators are not
        touched.
    verbose : int, default=0
        1 shows a progress bar.
    callbacks : list of skorch callbacks, default=None
        Objects, classes or pairs (name, callback). Each training calls copies of them, which
        are then in ``callbacks_``; what they collect is there, not in the objects given here.
    checkpoint_dir : str or path-like, default=None
        A folder for checkpoints of one fit, from which ``fit(..., resume=True)`` goes on after a
        crash. With the same parameters and data.
    checkpoint_every : (int, float), default=(1, 60.0)
        Iterations and seconds that must both have passed since the last checkpoint.
    net_params : dict, default=None
        More parameters of the skorch net, also ``set_params(net__optimizer__betas=...)``.
        ``"cuda_graph"``: "auto" (default), True or False, whether training steps on CUDA are
        captured once and then replayed (with "lbfgs" each evaluation of loss and gradient);
        "auto": without callbacks for each batch, from 23 full batches on; True raises
        where that is impossible."""

LOSS = """\
    loss : str or callable, default="squared_error"
        "squared_error", "absolute_error", "huber", quadratic up to one unit of the scaled target,
        "quantile", or "poisson", which models log(y) and needs y >= 0. Or a function
        ``loss(prediction, target)`` that gives a number for each row, (n,), by torch: both are
        tensors of float64 in the units of y, (n,) or (n, n_outputs). Its mean by sample_weight
        is minimised; ``loss_`` and what goes with it are over the loss of a constant prediction.
    quantile : float in (0, 1) or sequence of float, default=0.5
        The level for loss="quantile". Several, in rising order, are learned together and never
        cross: ``predict`` then gives an axis more, (..., n_quantiles), and ``score`` is that of the
        one nearest to 0.5.
    scale_target : bool, default=True
        Whether the target is scaled inside: to mean 0 and deviation 1; for
        "absolute_error", "huber" and "quantile" by median and quartiles, which outliers
        do not move; for "poisson", divided by its mean."""

CLASS_WEIGHT = """\
    class_weight : dict {label: weight}, list of dict, "balanced" or None, default=None
        Factor on the rows of each class; "balanced" is inverse to their frequency. Of several
        labels a list with a dict {0: weight, 1: weight} for each, whose factors are
        multiplied, or "balanced"."""

CLASSES = """\
    classes_ : ndarray of shape (n_classes,)
        For several labels at once a list of [0, 1] for each.
    label_names_ : list
        Of several labels: names of the columns of y, or numbers from 0 on."""

ATTRIBUTES = """\
    net_ : the skorch net
    module_ : sklearn_metakan.nn.<module>
        The torch module: <inputs> in, raw outputs out.
    n_features_in_, feature_names_in_ : int, ndarray
    n_iter_ : int
        Iterations of the last fit.
    loss_, best_loss_, loss_curve_ : float, float, list of float
        Training loss: last, best, and after each iteration.
    validation_scores_, best_validation_score_ : list of float, float or None
        <score> on held-out rows after each iteration, and that of the weights kept.
    n_parameters_ : int
        Trainable numbers.
    cuda_graph_ : bool
        Whether steps of the last training were replays of a CUDA graph.
    callbacks_ : list of skorch callbacks
        The copies of ``callbacks``, in their order, that the last training called. They are
        not in pickles and copies of the estimator.
    input_scaler_<target_scaler> : fitted scaling
    <of_features>"""

OF_FEATURES = """categories_ : dict of ndarrays
        Levels of each column of categories, by its position.
    interactions_ : list of (int, int)
        Columns that have a function together.
    feature_importances_ : ndarray of shape (n_features,)
        Share of the outputs' spread due to each feature."""

OF_IMAGES = """image_shape_ : tuple of int
        (channels, height, width); ``n_features_in_`` is their product."""

_AUTO = {
    "or_auto": ' or "auto"',
    "auto_grid": """ "auto" is 5, but 2 for splines
        of 500 columns of numbers or more, where few functions each do better, and for "reml" 32
        (fewer beyond 32 columns) or, of numbers in many rows, up to 128, one for 80 rows.""",
    "auto_degree": """ "auto" is 3, but
        2 where grid_size="auto" is 2.""",
    "grid_size": '"auto"',
    "degree": '"auto"',
    "batch_size": '"auto"',
}
_AUTO_IMAGES = {"or_auto": "", "auto_grid": "", "auto_degree": "", "auto_batch": ""}

_TEXTS = {
    "TUNE_FIRST": HIDDEN_LAYERS + TUNE_FIRST,
    "TUNE_FIRST_IMAGES": HIDDEN_CHANNELS + TUNE_FIRST,
    "METHOD": METHOD + "\n" + SPARSITY + SCALE_INPUTS,
    "METHOD_IMAGES": METHOD + "\n" + SCALE_PIXELS,
    "TRAINING": TRAINING,
    "LOSS": LOSS,
    "CLASS_WEIGHT": CLASS_WEIGHT,
    "CLASSES": CLASSES,
    "ATTRIBUTES": ATTRIBUTES,
}


def document(cls: T) -> T:
    """Class decorator: the constraints of the constructor's parameters, and their shared texts.

    {TUNE_FIRST}, {METHOD}, ... in the docstring become the texts above.
    """
    names = signature(cls).parameters
    cls._parameter_constraints = {name: CONSTRAINTS[name] for name in names}
    is_regressor, is_image = "loss" in names, "hidden_channels" in names
    if is_image:
        cls._parameter_constraints |= OF_IMAGES_ALONE
    fill_docstring(
        cls,
        _TEXTS,
        score="R2" if is_regressor else "Accuracy",
        target_scaler=", target_scaler_" if is_regressor else "",
        dropped="pooled channels" if is_image else "hidden units",
        module="ConvKAN" if is_image else "KAN",
        **_AUTO_IMAGES if is_image else _AUTO,
        inputs="images" if is_image else "scaled inputs",
        of_features=OF_IMAGES if is_image else OF_FEATURES,
    )
    return cls
