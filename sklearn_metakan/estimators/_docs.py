"""The parts of the class docstrings that the estimators have in common."""

from inspect import signature
from typing import TypeVar

from sklearn_metakan.training import BaseKANEstimator

T = TypeVar("T", bound=type[BaseKANEstimator])

TUNE_FIRST = """\
    hidden_layer_sizes : tuple of int, default=<hidden_layer_sizes>
        Widths of the hidden layers. ``()`` is the additive model: one function for each
        feature and output, no interactions.
    grid_size : int, default=<grid_size>
        Cells of the grid: more cells, finer functions. Without effect on polynomials.
    learning_rate : float or "auto", default="auto"
        Largest step size. "auto" is <adamw_learning_rate> for "adamw" and 1.0 for "lbfgs".
    max_iter : int or "auto", default="auto"
        Passes over the data; for "lbfgs", iterations. "auto" is as many passes as make 3,000
        steps, but from 20 to 200; 200 iterations for "lbfgs".
    weight_decay : float or "auto", default="auto"
        Pull of all trainable numbers towards zero: decoupled in "adamw"; for "lbfgs",
        ``0.5 * weight_decay * |parameters|^2`` in the loss. "auto" is <adamw_weight_decay> for
        "adamw" and 1e-7 for "lbfgs".<meta_decay>"""

META_DECAY = """ A prompt pulled to zero makes its
        edge the meta-learner's default function ``M(0)``."""

METHOD = """\
    basis : str, default="bspline"
        The functions that an edge combines: "bspline", splines; "rbf", Gaussians at the knots
        of the grid (FastKAN); "mexican_hat", "morlet", "dog" or "shannon", wavelets of several
        scales over the grid (WavKAN); "chebyshev" or "gram", polynomials of tanh; "legendre",
        polynomials. All but "chebyshev" come with silu, wavelets with a constant.
    degree : int, default=3
        Degree of splines and polynomials. Without effect on other functions.
    knots : {"uniform", "quantile"}, default="uniform"
        Knots of the inputs: evenly spaced, or at quantiles of each column; the latter for
        splines alone.
    extrapolation : {"linear", "base", "constant", "error"}, default="linear"
        Beyond the grid: value and slope continued; the functions as they are there (splines,
        Gaussians and wavelets end and leave silu alone, tanh levels off; not for "legendre",
        which would explode); the value at the end; a ValueError.
    dropout : float in [0, 1), default=0.0
        Share of hidden units left out at random in training."""

SCALE_INPUTS = """\
    scale_inputs : {"auto", "minmax", "standard", "quantile", None}, default="auto"
        Inside the estimator: range onto [-1, 1]; mean 0 and deviation 1; ranks onto
        [-1, 1]; unchanged. "auto" is minmax for columns spread evenly over their range, and
        the mean of minmax and quantile for the others."""

META = """\
    prompt_dim : int, default=<prompt_dim>
        p, the numbers in an edge's prompt.
    meta_hidden_dim : int, default=<meta_hidden_dim>
        H, hidden units of the meta-learner. 0 is the linear meta-learner: all edges are
        combinations of p learned functions; ``edge_scale`` must then be False.
    meta_activation : {"relu", "silu", "tanh", "sin"}, default="<meta_activation>"
    edge_scale : bool, default=<edge_scale>
        Whether each edge also has a trainable factor.
    n_meta_learners : "auto", "layer" or int, default="auto"
        One meta-learner for each layer, or so many for clusters of layers of similar output
        width; "auto" is one for the network.
    prompt_learning_rate, meta_learning_rate : float, default=None
        Step sizes of prompts (and edge factors) and of meta-learners; None: learning_rate."""

TRAINING = """\
    solver : {"adamw", "lbfgs"}, default="adamw"
        Mini-batches; or the whole table at once, for up to some thousand rows without
        noise.
    learning_rate_schedule : {"constant", "cosine", "exponential", "onecycle"}
        Course of the learning rate in "adamw"; default="onecycle".
    batch_size : int, default=256
        Rows in a step of "adamw".
    tol : float, default=1e-4
        An iteration counts as an improvement if the watched loss fell by more than tol
        times the best so far.
    early_stopping : bool or "auto", default="auto"
        Whether to hold rows out, stop when their loss no longer improves, and keep the best
        weights. "auto": with "adamw" and more than 200 rows, or if X_val is given.
    validation_fraction : float in (0, 1), default=0.1
        Share of rows held out.
    n_iter_no_change : int or "auto", default="auto"
        Iterations without improvement before stopping. "auto" is 20, but lets "cosine" and
        "onecycle", whose best weights come late, run to their end.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present weights and scaling.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is some, but the CPU inside a joblib worker.
    precision : {"auto", "float64", "float32", "tf32", "bf16"}, default="auto"
        "auto" follows the dtype of X on a CPU, is "tf32" on CUDA, and "float64" for "lbfgs".
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
    net_params : dict, default=None
        More parameters of the skorch net, also ``set_params(net__optimizer__betas=...)``.
        ``"cuda_graph"``: "auto" (default), True or False, whether training steps on CUDA are
        captured once and then replayed; "auto": with "adamw", without callbacks for each
        batch, from 23 full batches on; True raises where that is impossible."""

ATTRIBUTES = """\
    net_ : the skorch net
    module_ : sklearn_metakan.nn.KAN
        The torch module: scaled inputs in, raw outputs out.
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
    input_scaler_<target_scaler> : fitted scaling
    feature_importances_ : ndarray of shape (n_features_in_,)
        Share of the outputs' spread due to each feature."""

PAPER = """\
    Zhao, Shu, Meng, Xu, "Improving Memory Efficiency for Training KANs via Meta Learning",
    ICML 2025, arXiv 2506.07549."""

_TEXTS = {
    "TUNE_FIRST": TUNE_FIRST,
    "METHOD": METHOD + "\n" + SCALE_INPUTS,
    "META": META,
    "TRAINING": TRAINING,
    "ATTRIBUTES": ATTRIBUTES,
    "PAPER": PAPER,
}


def document(cls: T) -> T:
    """Class decorator: fill {TUNE_FIRST}, {METHOD}, ... in the docstring with the shared texts.

    Defaults are read off the constructor, so that text and code agree.
    """
    values = {
        name: parameter.default for name, parameter in signature(cls.__init__).parameters.items()
    }
    is_meta = "prompt_dim" in values
    is_regressor = "loss" in values
    values |= {
        "adamw_learning_rate": cls.adamw_learning_rate,
        "adamw_weight_decay": cls.adamw_weight_decay,
        "meta_decay": META_DECAY if is_meta else "",
        "score": "R2" if is_regressor else "Accuracy",
        "target_scaler": ", target_scaler_" if is_regressor else "",
    }
    text = cls.__doc__ or ""
    for name in ("TUNE_FIRST", "METHOD", "META", "TRAINING", "ATTRIBUTES", "PAPER"):
        if f"{{{name}}}" in text:
            part = _TEXTS[name]
            for key, value in values.items():
                part = part.replace(f"<{key}>", str(value))
            text = text.replace(f"    {{{name}}}", part)
    cls.__doc__ = text
    return cls
