"""Sums of functions, solved exactly, their smoothness chosen by restricted maximum likelihood."""

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sklearn_metakan.nn import KAN, Term, additive_terms, set_coefficients
from sklearn_metakan.training.memory import Batch

# Folds of rows with labels, which say how far all strengths are off; those that hold so many out.
FOLDS, HELD_OUT = 5, 2**11
FACTORS = 1.0, 0.5, 2.0, 4.0, 8.0  # of all of them; the first, where no other is surely better
SETTLED, NEARLY = 0.01, 0.03  # change of all degrees of freedom that ends it, and a fold's fit
FEW_ROWS = 2**13  # of labels, up to which folds are made
STALE = 0.1  # of the sum of all, how far curvatures may be from those of a matrix that is kept
STRENGTHS = 1e-2, 1e7
NOISE = 1e-8  # of the target's variance, at least
CURVATURE = 1e-4  # of a row's log loss, at least
DROPPED, PATIENCE = 0.01, 6  # degrees of freedom of terms left out, after so many steps
_NEWTON, _MOST_STEPS = 3, 50  # for a factor, and of a fold
_AT_A_TIME, _HELD = 2**21, 2**25  # features
_COLUMNS = 512  # of a symmetric product, at a time

Features = Callable[[], Iterable[Tensor]]


class _Rows(NamedTuple):
    """Inputs or, if those are known, features of rows, their targets and weights."""

    x: Tensor
    y: Tensor
    weight: Tensor
    known: bool

    def of(self, some: Tensor) -> "_Rows":
        return _Rows(self.x[some], self.y[some], self.weight[some], self.known)


class _Sums(NamedTuple):
    """Over rows of weights W: mass, means of F and z, and, centred, A'F'WFA, A'F'Wz, z'Wz.

    Of fewer rows than numbers, ``sqrt(W) FA`` and ``sqrt(W) z`` are in place of the products.
    """

    mass: Tensor
    features: Tensor
    target: Tensor
    products: Tensor
    cross: Tensor
    square: Tensor

    @property
    def of_few(self) -> bool:
        return self.products.shape[0] < self.products.shape[1]

    def only(self, numbers: Tensor, features: Tensor) -> "_Sums":
        """Some numbers v of some features."""
        found = self._replace(features=self.features[features], products=self.products[:, numbers])
        if not self.of_few:
            return found._replace(products=found.products[numbers], cross=self.cross[numbers])
        rows = found.products
        if len(rows) < rows.shape[1]:
            return found
        return found._replace(products=rows.T @ rows, cross=rows.T @ self.cross)


class _State(NamedTuple):
    """Of an output, and of the terms that are left: w, b, s, g and phi.

    Those of all members are (n_features, n_members) and (n_members,).
    """

    weights: Tensor
    constant: Tensor
    strengths: Tensor
    freedom: Tensor
    noise: Tensor


class Reml(torch.optim.Optimizer):
    """Penalised least squares with a strength for each term, or Newton steps for log losses.

    For outputs ``b + F w`` with terms ``w = A v``, ``v_t ~ N(0, I / s_t)``, a step solves
    ``(A'F'WFA / phi + S) v = A'F'Wz / phi`` with weights W and targets z of the loss's quadratic
    model (of squares, their own), and then sets, with V the inverse of the matrix on the left,
    ``g_t = k_t - s_t tr(V_tt)``, ``s_t = g_t / |v_t|^2`` and, of squares,
    ``phi = RSS / (n - sum g)``: g are degrees of freedom, and where it settles, the restricted
    likelihood is at its maximum. Classes take turns, each against the others' present logits. Of
    labels, W and with it the matrix stay while curvatures differ from W, in the sum over the rows,
    by a smaller share than g changed by in the last step (at most a tenth); slopes are always those
    of the present logits. The likelihood of labels is an approximation, which errs where rows are
    few: up to 8,192 rows, all strengths are then multiplied by that of five factors, from 1/2 to 8,
    with which fits on four fifths of the rows have the lowest loss on the others (1, if by less
    than a standard error), in as many of five folds as hold 2,048 rows out.

    The members of a network are draws from the posterior distribution, moved so that their mean
    is its mean, which alone decides predictions.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Without effect.

    Attributes
    ----------
    settled : bool
        Whether degrees of freedom changed by less than a hundredth of their sum in the last step.

    Notes
    -----
    A step takes P^3 for P numbers v and, of labels where W is new, n P^2 for n rows; of squares,
    the sums over the rows are made once. With n below P it takes n^2 P.

    Source: MacKay, "Bayesian interpolation" (1992); Wood and Fasiolo, "A generalized
    Fellner-Schall method for smoothing parameter optimization" (2017).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1.0) -> None:
        super().__init__(params, {"lr": lr})
        self.settled = False
        self._done, self._kept = 0, list[int]()
        self._every: list[Term] = []
        self._terms: list[Term] = []  # those that are kept, of the features in columns
        self._columns = torch.empty(0, dtype=torch.long)
        self._states: list[_State] = []
        self._known: dict[int, _Sums] = {}  # of outputs
        self._curved: dict[int, Tensor] = {}  # by which these are weighted, of labels
        self._moved = 1.0  # in the last step, as a share of all degrees of freedom

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        states = [state._asdict() for state in self._states]
        found = {"settled": self.settled, "done": self._done, "moved": self._moved}
        return found | {"kept": self._kept, "states": states, "curved": [*self._curved.values()]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.settled, self._done, self._kept = state["settled"], state["done"], state["kept"]
        self._moved, self._curved = state["moved"], dict(enumerate(state["curved"]))
        self._states = [_State(**each) for each in state["states"]]

    @torch.no_grad()
    def step_on(
        self, network: KAN, criterion: nn.Module, batch: Batch, known: bool, seed: int
    ) -> Tensor:
        """One step for all outputs; gives the loss, of labels where the step began.

        Parameters
        ----------
        network : KAN
        criterion : MSELoss, BCEWithLogitsLoss or CrossEntropyLoss
            By row.
        batch : (x, (y, weight))
            All rows.
        known : bool
            Whether x are features already.
        seed : int
            For the draws.

        Raises
        ------
        ValueError
            For another loss, and a network that has no ``additive_terms``.
        """
        if not isinstance(criterion, nn.MSELoss | nn.BCEWithLogitsLoss | nn.CrossEntropyLoss):
            raise ValueError(
                "solver='reml' is for loss='squared_error' and for labels. Choose another solver."
            )
        x, (y, weight) = batch
        weight = torch.ones(len(y), dtype=x.dtype, device=x.device) if weight is None else weight
        rows = _Rows(x, y, weight, known)
        loss = self._step(network, criterion, rows, seed)
        squares = isinstance(criterion, nn.MSELoss)
        if self.settled and not squares and FOLDS <= len(y) <= FEW_ROWS:
            factor = self._best_factor(network, criterion, rows, seed)
            self._multiply(factor)
            for _ in range(_NEWTON if factor != 1 else 0):
                self._step(network, criterion, rows, seed, hold=True)
        self._narrow(network)
        self._write(network)
        return loss * network.n_members

    def _step(
        self, network: KAN, criterion: nn.Module, rows: _Rows, seed: int, hold: bool = False
    ) -> Tensor:
        """``step_on`` that leaves the network as it is, and may hold strengths as they are."""
        self._narrow(network)
        x, y, weight, known = rows
        generator = torch.Generator(device=x.device).manual_seed(seed)
        squares = isinstance(criterion, nn.MSELoss)
        features = _features(network, x, known, self._columns)
        before = [state.freedom for state in self._states]
        size = sum(term.size for term in self._terms)
        shape = size + (len(y) if len(y) < size else 0), network.n_members
        normal = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
        if squares:
            loss = self._of_squares(features, y.view(len(y), -1), weight, normal)
        else:
            loss = self._of_labels(features, rows, criterion, normal, network.out_features, hold)
        if hold:
            return loss
        after = torch.cat([state.freedom for state in self._states])
        moved = (after - torch.cat(before)).abs().sum() if before else after.sum()
        self._moved = float(moved / after.sum().clamp(min=1.0))
        self.settled = self._moved < SETTLED
        self._done += 1
        if self._done >= PATIENCE:
            self._drop()
        return loss

    def _best_factor(self, network: KAN, criterion: nn.Module, rows: _Rows, seed: int) -> float:
        """Of those that are better than the first by a standard error, on rows held out."""
        n, device = len(rows.y), rows.x.device
        generator = torch.Generator(device=device).manual_seed(seed)
        fold = torch.randperm(n, generator=generator, device=device) % FOLDS
        n_folds = min(FOLDS, -(-FOLDS * HELD_OUT // n))
        solvers = [Reml(self.param_groups[0]["params"]) for _ in range(n_folds)]
        for k, solver in enumerate(solvers):
            solver._every, others = self._every, rows.of(fold != k)
            for _ in range(_MOST_STEPS):
                solver._step(network, criterion, others, seed)
                if solver._moved < NEARLY:
                    break
        losses, before, best = [], 1.0, inf
        for factor in FACTORS:
            found = rows.x.new_zeros(n)
            for k, solver in enumerate(solvers):
                others, held = rows.of(fold != k), rows.of(fold == k)
                solver._multiply(factor / before)
                for _ in range(_NEWTON):
                    solver._step(network, criterion, others, seed, hold=True)
                features = _features(network, held.x, held.known, solver._columns)
                found[fold == k] = _by_row(criterion, solver._logits(features), held.y)
            losses.append((found * rows.weight)[fold < n_folds])
            loss, before = float(losses[-1].mean()), factor
            if factor > 1 and loss > best:  # and so are those beyond
                break
            best = min(best, loss)
        gains = losses[0][:, None] - torch.stack(losses, 1)
        sure = gains.mean(0) > gains.std(0) / len(gains) ** 0.5
        return FACTORS[int(torch.where(sure, gains.mean(0), 0.0).argmax())]

    def _narrow(self, network: KAN) -> None:
        self._every = self._every or additive_terms(network)
        self._kept = self._kept or [*range(len(self._every))]
        self._terms, self._columns = _narrowed(self._every, self._kept)

    def _multiply(self, factor: float) -> None:
        self._states = [each._replace(strengths=each.strengths * factor) for each in self._states]

    def _of_squares(self, features: Features, y: Tensor, weight: Tensor, normal: Tensor) -> Tensor:
        terms = self._terms
        if not self._known:
            self._known = {k: _sums(terms, features, own, weight) for k, own in enumerate(y.T)}
        if not self._states:
            self._states = [_start(terms, sums) for sums in self._known.values()]
        losses = []
        for output, sums in self._known.items():
            state, rest = _solved(terms, sums, self._states[output], normal)
            noise = rest / (sums.mass - state.freedom.sum() - 1).clamp(min=1.0)
            noise = noise.clamp(min=NOISE * sums.square / sums.mass)
            self._states[output] = state._replace(noise=noise)
            losses.append(rest / sums.mass)
        return torch.stack(losses).mean()

    def _of_labels(
        self,
        features: Features,
        rows: _Rows,
        criterion: nn.Module,
        normal: Tensor,
        outputs: int,
        hold: bool,
    ) -> Tensor:
        terms, one_of_many = self._terms, isinstance(criterion, nn.CrossEntropyLoss)
        _, y, weight, _ = rows
        target = F.one_hot(y, outputs).to(weight) if one_of_many else y
        if not self._states:
            shares = (target * weight[:, None]).mean(0) / weight.mean()
            width = next(iter(features())).shape[1]
            for share in shares.clamp(1e-4, 1 - 1e-4):
                constant = share.log() if one_of_many else share.logit()
                self._states.append(_start_at(terms, weight.new_zeros(width), constant))
        logits = self._logits(features)
        by_row = _by_row(criterion, logits, y)
        for output in range(len(self._states)):
            others = torch.zeros_like(logits[:, output])
            if one_of_many:
                rest = torch.cat([logits[:, :output], logits[:, output + 1 :]], 1)
                others = rest.logsumexp(1)
            logit = logits[:, output] - others
            p = logit.sigmoid()
            curvature, known = self._curvature((p * (1 - p)).clamp(min=CURVATURE), weight, output)
            z = logit + others + (target[:, output] - p) / curvature
            sums = _sums(terms, features, z, weight * curvature, known)
            self._known[output] = sums
            state, _ = _solved(terms, sums, self._states[output], normal, hold)
            self._states[output] = state
            if one_of_many:
                own = torch.cat([each @ state.weights.mean(1) for each in features()])
                logits[:, output] = own + state.constant.mean()
        return (by_row * weight).mean() / weight.mean()

    def _curvature(
        self, present: Tensor, weight: Tensor, output: int
    ) -> tuple[Tensor, _Sums | None]:
        """That of rows, and what is known with it: the last one, while it is near enough."""
        if (kept := self._curved.get(output)) is not None:
            off = (weight * (present - kept).abs()).sum() / (weight * present).sum()
            if float(off) < min(STALE, max(self._moved, SETTLED)):
                return kept, self._known.get(output)
        self._curved[output] = present
        return present, None

    def _logits(self, features: Features) -> Tensor:
        weights = torch.stack([state.weights.mean(1) for state in self._states], 1)
        logits = torch.cat([each @ weights for each in features()])
        return logits + torch.stack([state.constant.mean() for state in self._states])

    def _drop(self) -> None:
        """Leave out the terms that do nothing for any output."""
        freedom = torch.stack([state.freedom for state in self._states]).amax(0)
        keep = freedom > min(DROPPED, float(freedom.max()) / 2)
        if bool(keep.all()):
            return
        sizes = torch.tensor([term.size for term in self._terms], device=keep.device)
        numbers, places = keep.repeat_interleave(sizes), keep.nonzero().flatten().tolist()
        self._kept = [self._kept[k] for k in places]
        used = _narrowed(self._terms, places)[1].to(keep.device)
        for k, state in enumerate(self._states):
            own = state.strengths[keep], state.freedom[keep]
            # What a term that goes did to the constant is as little as it was.
            self._states[k] = _State(state.weights[used], state.constant, *own, state.noise)
        self._known = {k: sums.only(numbers, used) for k, sums in self._known.items()}

    def _write(self, network: KAN) -> None:
        """Numbers of members one after the other, each with those of all outputs."""
        some = torch.stack([state.weights for state in self._states], 2).flatten(1)
        n_features: Any = network.layers[0].n_features
        weights = some.new_zeros(n_features, some.shape[1])
        weights[self._columns.to(some.device)] = some
        constant = torch.stack([state.constant for state in self._states], 1).flatten()
        set_coefficients(network, weights, constant)


def _by_row(criterion: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
    losses: Tensor = criterion(logits, y)
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def _narrowed(terms: list[Term], kept: list[int]) -> tuple[list[Term], Tensor]:
    """Some terms, and which features they combine; the terms then count among these."""
    used = torch.zeros(terms[-1].features.stop, dtype=torch.bool)
    for k in kept:
        used[terms[k].features] = True
    place = (used.cumsum(0) - 1).tolist()
    found = []
    for k in kept:
        span, factor = terms[k]
        found.append(Term(slice(place[span.start], place[span.stop - 1] + 1), factor))
    return found, used.nonzero().flatten()


def _features(network: KAN, x: Tensor, known: bool, columns: Tensor) -> Features:
    """What gives some features of rows, some at a time, as often as it is called."""
    width: Any = x.shape[1] if known else network.layers[0].n_features
    parts = x.split(max(1, _AT_A_TIME // width))
    columns, whole = columns.to(x.device), len(columns) == width

    def made() -> Iterator[Tensor]:
        for part in parts:
            found = part if known else network.features(part)
            yield found if whole else found[:, columns]

    if known and whole:
        return lambda: (x,)
    if len(x) * len(columns) > _HELD:
        return made
    held = x[:, columns] if known else torch.cat([*made()])
    return lambda: (held,)


def _sums(
    terms: list[Term],
    features: Features,
    target: Tensor,
    weight: Tensor,
    known: _Sums | None = None,
) -> _Sums:
    """``known``: those of another target with the same weights, whose products are the same."""
    mass = weight.sum()
    middle = (weight * target).sum() / mass
    rest = target - middle
    square = (weight * rest.square()).sum()
    few = len(target) < sum(term.size for term in terms)
    if known is None:
        means, products = (_products_of_few if few else _products)(terms, features, weight)
    else:
        means, products = known.features, known.products
    if few:
        return _Sums(mass, means, middle, products, weight.sqrt() * rest, square)
    start, cross = 0, torch.zeros_like(means)
    for part in features():
        rows = slice(start, start + len(part))
        cross += (weight[rows] * rest[rows]) @ part
        start = rows.stop
    return _Sums(mass, means, middle, products, _combined(terms, cross[None])[0], square)


def _products_of_few(
    terms: list[Term], features: Features, weight: Tensor
) -> tuple[Tensor, Tensor]:
    every = torch.cat([*features()])
    means = weight @ every / weight.sum()
    return means, _combined(terms, (every - means) * weight.sqrt()[:, None])


def _products(terms: list[Term], features: Features, weight: Tensor) -> tuple[Tensor, Tensor]:
    start = 0
    first: Any = 0.0
    products: Any = 0.0
    for part in features():
        weighted = part * weight[start : start + len(part), None]
        first = first + weighted.sum(0)
        products = products + _symmetric(part, weighted)
        start += len(part)
    means = first / weight.sum()
    products = torch.addr(products, first, means, alpha=-1)
    return means, _combined(terms, _combined(terms, products).T)


def _symmetric(left: Tensor, right: Tensor) -> Tensor:
    """``left.T @ right``, which is known to be symmetric, at about half the cost."""
    size = left.shape[1]
    found = left.new_empty(size, size)
    for start in range(0, size, _COLUMNS):
        some = slice(start, start + _COLUMNS)
        found[some, start:] = left[:, some].T @ right[:, start:]
        found[some.stop :, some] = found[some, some.stop :].T
    return found


def _start(terms: list[Term], sums: _Sums) -> _State:
    noise = (0.1 * sums.square / sums.mass).clamp(min=torch.finfo(sums.mass.dtype).tiny)
    return _start_at(terms, torch.zeros_like(sums.features), sums.target)._replace(noise=noise)


def _start_at(terms: list[Term], weights: Tensor, constant: Tensor) -> _State:
    strengths = weights.new_full((len(terms),), float(len(terms)))
    one = torch.ones_like(constant)
    return _State(weights[:, None], constant[None], strengths, torch.zeros_like(strengths), one)


def _solved(
    terms: list[Term], sums: _Sums, state: _State, normal: Tensor, hold: bool = False
) -> tuple[_State, Tensor]:
    """The next state, with the same noise, and the weighted squares that it leaves.

    ``hold``: strengths and degrees of freedom, which take half of the time, stay as they are.
    """
    sizes = [term.size for term in terms]
    strengths = state.strengths.repeat_interleave(torch.tensor(sizes, device=normal.device))
    members = normal.shape[1]
    if members > 1:
        normal = (normal - normal.mean(1, keepdim=True)) * (members / (members - 1)) ** 0.5
    solve = _by_rows if sums.of_few else _by_numbers
    v, rest, factor, deviations = solve(sums, strengths, state.noise, normal)
    draws = v[:, None].expand(-1, members) if members == 1 else v[:, None] + deviations
    weights = _spread(terms, draws, len(sums.features))
    found = state._replace(weights=weights, constant=sums.target - sums.features @ weights)
    if hold:
        return found, rest
    shares = _shares(sums, strengths, factor)
    freedom = torch.stack([each.sum() for each in shares.split(sizes)]).clamp(min=0.0)
    powers = torch.stack([each.square().sum() for each in v.split(sizes)])
    chosen = ((freedom + 1e-3) / (powers + 1e-9)).clamp(*STRENGTHS)
    return found._replace(strengths=chosen, freedom=freedom), rest


def _shares(sums: _Sums, strengths: Tensor, factor: Tensor) -> Tensor:
    """The freedom of each number, ``1 - s_v V_vv``."""
    if not sums.of_few:
        return 1 - torch.cholesky_inverse(factor).diagonal() * strengths
    scaled = sums.products * strengths.rsqrt()
    return torch.linalg.solve_triangular(factor, scaled, upper=False).square_().sum(0)


def _by_numbers(
    sums: _Sums, strengths: Tensor, noise: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """v, the squares that it leaves, the matrix's factor, and draws around v."""
    products, cross = sums.products, sums.cross
    matrix = products / noise
    matrix.diagonal().add_(strengths)
    matrix.diagonal().mul_(1 + 1e-12)
    factor = torch.linalg.cholesky(matrix)
    v = torch.cholesky_solve(cross[:, None] / noise, factor)[:, 0]
    rest = (sums.square - 2 * v @ cross + v @ (products @ v)).clamp(min=0.0)
    return v, rest, factor, torch.linalg.solve_triangular(factor.T, normal, upper=True)


def _by_rows(
    sums: _Sums, strengths: Tensor, noise: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same by a matrix as large as there are rows, ``D S^-1 D' + phi I`` with D = FA.

    Draws are ``u - S^-1 D' (D S^-1 D' + phi I)^-1 (D u + e)``, with u and e from the priors of v
    and of noise (Matheron's rule).
    """
    rows, deviation = sums.products, strengths.rsqrt()
    scaled = rows * deviation
    matrix = _symmetric(scaled.T, scaled.T)
    matrix.diagonal().add_(noise)
    matrix.diagonal().mul_(1 + 1e-12)
    factor = torch.linalg.cholesky(matrix)
    prior, error = normal.split([len(strengths), len(rows)])
    seen = torch.column_stack([sums.cross, scaled @ prior + error * noise.sqrt()])
    means = (scaled.T @ torch.cholesky_solve(seen, factor)) * deviation[:, None]
    v = means[:, 0]
    rest = (sums.cross - rows @ v).square().sum()
    return v, rest, factor, prior * deviation[:, None] - means[:, 1:]


def _combined(terms: list[Term], rows: Tensor) -> Tensor:
    """``rows @ A``."""
    parts = [(rows[:, span], factor) for span, factor in terms]
    return torch.cat([part if factor is None else part @ factor for part, factor in parts], 1)


def _spread(terms: list[Term], v: Tensor, width: int) -> Tensor:
    """``A @ v``, (width, n_members)."""
    found = v.new_zeros(width, v.shape[1])
    for (span, factor), part in zip(terms, v.split([term.size for term in terms]), strict=True):
        found[span] += part if factor is None else factor @ part
    return found
