"""The PDE solvers with scikit-learn's interface."""

from __future__ import annotations  # help() shows types as they are written here

from dataclasses import KW_ONLY, dataclass
from inspect import signature
from typing import Any, TypeVar

from sklearn_metakan.pde.solve.parameters import CONSTRAINTS
from sklearn_metakan.pde.solve.solver import PDESolver
from sklearn_metakan.training import fill_docstring

T = TypeVar("T", bound=Any)

PROBLEM = """\
    residual : callable
        ``residual(x, u, **pde_params)`` in torch, zero for a solution: x (n, d), u a ``Field``
        with ``u.value``, ``u.grad()``, ``u.d(0, 0)``, ``u.dt()``, ``u.laplacian()``, ...; gives
        (n,), or a tuple or dict of such for several equations.
    domain : domain, sampler or array, default=None
        Where the equation holds; see ``as_domain``. A ``SpaceTime`` has time as last column.
    boundary : domain, sampler or array, default=None
        Where boundary conditions are asked; None: the boundary of ``domain``.
    conditions : list of conditions, default=()
        ``Dirichlet``, ``Neumann``, ``Robin``, ``Periodic``, ``Initial``, ``Condition``.
    ansatz : callable, default=None
        ``ansatz(x, net)`` in place of the network, such as ``(1 - |x|^2) * net``, to fulfil
        conditions exactly; those need not be listed.
    features : callable, default=None
        ``features(x)``, torch, row by row, (n, d) -> (n, m): what the network sees in place of x,
        such as ``(cos x, sin x, t)`` where u is periodic, or x and the singular function of a
        corner. Derivatives stay those by x.
    hard : bool, default=False
        Whether conditions hold exactly where they can, by an ansatz and features that are made of
        them: ``Dirichlet`` on all of a boundary, by the domain's ``distance``; ``Initial``;
        ``Periodic`` in boxes. Those with ``where``, or values that jump or have a kink, and all
        others, stay losses.
    n_outputs : int, default=<n_outputs>
        Unknown functions.
    variables : sequence of str, default=None
        Names of the coordinates, for ``u.d("x", "t")``. A last name "t" is time.
    pde_params : dict of str to float or Positive, default=None
        Constants of the equation that are trained too, with their starting values.
    eigenvalue : str, default=None
        A constant of the residual that is an eigenvalue, found with modes of length one. A number
        in ``pde_params`` asks for those nearest to it; else they count from where they are bounded.
    n_modes : int, default=1
        How many, each orthogonal to those before.
    solution : callable, default=None
        The known solution, in torch: its relative error is shown and recorded.
    derivatives : {"exact", "sdgd", "hutchinson"}, default="<derivatives>"
        What ``u.laplacian()`` is in training: exact; the second derivatives along
        ``n_directions`` coordinates drawn for each point; or along random signs. The squared
        loss is unbiased in each case; a residual has to be linear in an estimate.
    n_directions : int, default=<n_directions>
    n_interior, n_boundary, n_initial : int, default=<n_interior>, <n_boundary>, <n_initial>
        Points of a step: inside, for each condition on the boundary, for each initial one.
    n_observations : int, default=None
        Observations of a step, drawn from those given to ``fit`` as often as other points; None:
        all of them.
    sampling : str, default="<sampling>"
        How points are drawn: "uniform", "sobol", "latin_hypercube", "grid"; "radius" in balls;
        "rad", where the residual is large.
    resample_every : int or None, default=<resample_every>
        Steps of AdamW, and of Levenberg-Marquardt, between new points; None: the same points for
        all. With "rad" 1 means 50 and 10, with weights of single points 500 and 50.
    loss_weights : dict, str or None, default="auto"
        Factors of the losses by name ("residual", "dirichlet", ...; see ``loss_terms_``), 1 for
        those not named; None: 1 for all. "auto" makes all as large as that of the equation where
        a smooth function of the solution's size stands in its place. Renewed every 100 steps:
        "balanced" gives all gradients the same norm, "gradient" divides the equation's largest by
        the mean of the condition's, "ntk" gives all tangent kernels the same trace. Weights of
        single points, which follow their residuals in AdamW and Levenberg-Marquardt, while losses
        as a whole have those of "auto": "rba" and "vrba" (residual-based attention), and
        "self-adaptive" (gradient ascent).
    causal : float, default=None
        epsilon: later times count once the loss at earlier ones is well below 1 / epsilon.
    windows : int, default=1
        Time is cut into so many parts, each with a network of its own that is trained after the
        one before and starts from its end. For long times and many cycles; all ``Initial``
        conditions move on, and ``time_limit`` is for all parts together.
    outside : {"warn", "error", "ignore"}, default="warn"
        At points outside the domain, where nothing was solved, ``predict`` and its kin go on with
        a UserWarning that counts them and names the farthest, raise a ValueError, or go on."""

NETWORK = """\
    hidden_layer_sizes : tuple of int, default=<hidden_layer_sizes>
    grid_size : int, default=<grid_size>
        Cells of the grid, which spans the bounds of the domain; in balls of many dimensions, what
        99 % of the points reach.
    learning_rate : float or "auto", default="auto"
        Largest step size of AdamW. "auto" is <adamw_learning_rate>, and 1.0 for L-BFGS.
    solver : {"auto"} or None, default="auto"
        "auto" trains by itself if ``max_iter`` is "auto" and no other iterations are asked for:
        Levenberg-Marquardt, where there are more points than parameters and at most 4,000 of these;
        or 1,000 steps of AdamW, and then self-scaled Broyden for up to 8,000 parameters, or L-BFGS.
        A MetaKAN has these steps in each case. All but the last take few points until the loss at
        new ones falls no more. Until ``tol``, until the loss falls no more, or ``time_limit``.
        None: as the next parameters say.
    max_iter : int or "auto", default="auto"
        Steps of AdamW. "auto" is 5,000, or what ``solver`` says.
    lbfgs_iter : int, default=<lbfgs_iter>
        Iterations of L-BFGS after them, on points that stay as they are.
    ssbfgs_iter, ssbroyden_iter : int, default=<ssbfgs_iter>
        Iterations of self-scaled BFGS, or Broyden, after them; see ``SelfScaled``. New points come
        as ``resample_every`` says, but stay for 200 iterations at least.
    lm_iter : int, default=<lm_iter>
        Iterations of Levenberg-Marquardt at the end, least squares for all parameters at once,
        at most 20,000: each solves a linear system of their number. Points as
        ``resample_every`` says; more of them than parameters keep it from fitting the points.
    tol : float, default=<tol>
        Training ends after AdamW where every loss is below the square of this, relative to its
        size for a smooth function in place of the solution.
    time_limit : float, default=None
        Seconds that training may take.
    weight_decay : float or "auto", default="auto"
        Of AdamW. "auto" is <adamw_weight_decay>.<meta_decay>
    basis : str, default="<basis>"
        The functions that an edge combines; see ``KANRegressor``. Beyond the grid they go on
        as they are.
    degree : int or "auto", default="<degree>"
        Of splines and polynomials; of splines at least the equation's order + 1. "auto" is 3,
        and order + 2 for equations of order 3 and 4."""

TRAINING = """\
    learning_rate_schedule : {"constant", "cosine", "exponential", "onecycle"}
        Course of the learning rate in AdamW; default="<learning_rate_schedule>". "exponential"
        is 0.975 for every 100 steps.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present weights.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is some, but the CPU inside a joblib worker.
    precision : {"auto", "float64", "float32", "tf32", "bf16"}, default="auto"
        "auto" is float64 if any method but AdamW is used, else float32.
    working_memory : float, default=None
        MiB that a layer, and ``predict``, may take for what is made in blocks.
    random_state : int, RandomState or None, default=None
        Starting values and points. Global generators are not touched.
    verbose : int, default=0
        1 shows a progress bar with the errors in ``history_``.
    callbacks : list of skorch callbacks, default=None
        An epoch is a run of 100 steps.
    checkpoint_dir : str or path-like, default=None
        A folder for checkpoints of one fit, from which ``fit(..., resume=True)`` goes on after a
        crash. With the same parameters and data.
    checkpoint_every : (int, float), default=(1, 60.0)
        Runs of 100 steps and seconds that must both have passed since the last checkpoint.
    net_params : dict, default=None
        More parameters of the skorch net."""

ATTRIBUTES = """\
    module_ : TrialFunction
        The solution as a torch module, with ``field(x)`` for its derivatives. It is part of
        ``net_.module_``, which has equation and conditions too, and gives the losses.
    windows_ : list of solvers
        Those of the parts of time, with ``windows``; other attributes are of the last one, but for
        ``domain_``, ``n_iter_`` and ``n_parameters_``.
    modes_, eigenvalues_ : list of solvers, ndarray of shape (n_modes,)
        With ``eigenvalue``; other attributes are those of the first mode, but for ``n_iter_`` and
        ``n_parameters_``. ``predict`` has several modes as its last axis.
    loss_terms_ : dict of str to ndarray
        The mean of each loss over every 100 steps; "step", the steps done; "error", the
        relative error, if ``solution`` is given.
    loss_curve_, loss_ : list of float, float
        The weighted sum of all losses, and the last one.
    history_ : dict of str to ndarray
        As ``loss_terms_``, with errors in place of losses: by equation and condition the root of
        the mean square of its misfit, in its own units. ``pandas.DataFrame(history_)`` is a table.
    loss_weights_ : dict of str to float
        Factors of the losses at the end.
    pde_params_ : dict of str to float
        Trained constants of the equation.
    n_iter_ : int
        Steps done, of both solvers.
    n_parameters_ : int
        Trainable numbers of the network.
    n_features_in_ : int
        d.
    domain_ : Domain
    callbacks_ : list of skorch callbacks
        The copies of ``callbacks`` that the last of the solvers called; not in pickles.
    net_ : the skorch net"""

_TEXTS = {"PROBLEM": PROBLEM, "NETWORK": NETWORK, "TRAINING": TRAINING, "ATTRIBUTES": ATTRIBUTES}


def document(cls: T) -> T:
    """Class decorator: the constraints of the constructor's parameters, and their shared texts.

    {PROBLEM}, {NETWORK}, ... in the docstring become the texts above.
    """
    cls._parameter_constraints = {name: CONSTRAINTS[name] for name in signature(cls).parameters}
    fill_docstring(cls, _TEXTS)
    return cls


@document
@dataclass(eq=False, repr=False)
class KANPDESolver(PDESolver):
    """Solves a partial differential equation with a Kolmogorov-Arnold network.

    The network is trained until the equation's residual and the conditions' misfits vanish at
    points drawn from the domain: the sum of their mean squares is minimised.

    Parameters
    ----------
    {PROBLEM}
    {NETWORK}
    {TRAINING}

    Attributes
    ----------
    {ATTRIBUTES}

    See Also
    --------
    MetaKANPDESolver : Generated coefficients: fewer trainable numbers.

    References
    ----------
    Raissi, Perdikaris, Karniadakis, "Physics-informed neural networks", 2019.
    {PAPER}

    Examples
    --------
    >>> from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver
    >>> def residual(x, u):  # u'' = -1, u = 0 at both ends
    ...     return u.d(0, 0) + 1
    >>> solver = KANPDESolver(
    ...     residual, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], hidden_layer_sizes=(4,),
    ...     n_interior=200, n_boundary=2, max_iter=0, lbfgs_iter=100, random_state=0,
    ... ).fit()
    >>> bool(abs(solver.predict([[0.5]])[0] - 1 / 8) < 0.01)
    True
    """


@document
@dataclass(eq=False, repr=False)
class MetaKANPDESolver(PDESolver):
    """Solves a partial differential equation with a KAN whose edges a meta-learner generates.

    As ``KANPDESolver``; coefficients come from a small meta-learner, ``w_oi = a_oi M(z_oi)``, so
    that an edge costs a prompt z_oi of p numbers in place of C coefficients.

    Parameters
    ----------
    {PROBLEM}
    {NETWORK}
    {META}
    {TRAINING}

    Attributes
    ----------
    {ATTRIBUTES}

    See Also
    --------
    KANPDESolver : Every edge with its own coefficients.

    References
    ----------
    Raissi, Perdikaris, Karniadakis, "Physics-informed neural networks", 2019.
    {PAPER}

    Examples
    --------
    >>> from sklearn_metakan.pde import Ball, MetaKANPDESolver
    >>> def residual(x, u):  # laplace(u) = -4 in the unit disc
    ...     return u.laplacian() + 4
    >>> def ansatz(x, net):  # u = 0 on its edge
    ...     return (1 - x.square().sum(1)) * net
    >>> solver = MetaKANPDESolver(
    ...     residual, domain=Ball([0, 0]), ansatz=ansatz, hidden_layer_sizes=(4,), n_interior=100,
    ...     max_iter=0, lbfgs_iter=50, random_state=0,
    ... ).fit()
    >>> bool(abs(solver.predict([[0.0, 0.0]])[0] - 1) < 0.01)
    True
    """

    _: KW_ONLY
    prompt_dim: int = 3
    meta_hidden_dim: int = 0
    meta_activation: str = "sin"
    edge_scale: bool = False
    n_meta_learners: int | str = "layer"
    prompt_learning_rate: float | None = None
    meta_learning_rate: float | None = None
