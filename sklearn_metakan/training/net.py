"""The one skorch net: tensor batches, losses read once an epoch, a clean interrupt."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from inspect import signature
from typing import Any, ClassVar, Literal, Self, cast

import torch
from numpy.typing import NDArray
from sklearn.utils import Tags
from skorch import NeuralNet
from skorch.callbacks import BatchScoring, EarlyStopping
from skorch.history import History
from skorch.utils import TeeGenerator
from torch import Tensor, nn

from sklearn_metakan.nn import Drawing, FewRows, Sparsity
from sklearn_metakan.training.callbacks import StopTraining, warn_caller
from sklearn_metakan.training.capture import (
    CAPTURING,
    WARM_UP,
    WORTH_CAPTURING,
    CapturedStep,
    is_captured,
)
from sklearn_metakan.training.data import (
    MadeData,
    StoredData,
    TensorData,
    joined,
    losses_of_members,
    rows_like,
    shortened,
    weighted_mean,
)
from sklearn_metakan.training.execution import Execution
from sklearn_metakan.training.memory import Batch, Frugal, with_advice
from sklearn_metakan.training.optimisers import AdamW
from sklearn_metakan.training.parallel import PRESENT, Ranks
from sklearn_metakan.training.reml import Reml
from sklearn_metakan.training.self_scaled import LINE_SEARCHED

Score = Callable[[Tensor, Tensor, Tensor | None], float]
_ROWS_TRIED = 64
FEATURES_MEMORY = 128.0  # MiB; as many features of a table's rows are kept from epoch to epoch
FOR_PAIRS = 8  # times as many of pairs, which take long to make
_IN_CACHE = 2**15  # numbers of x whose features are made at a time
_WATCHED = 2**19  # numbers of features that batches of validation rows may have on a CPU


class KANNet(NeuralNet):
    """skorch's NeuralNet over ``TensorData``.

    Differences: batches are slices of tensors; the criterion gives a loss by row, which is
    weighted and averaged here; losses stay on the device and are read once an epoch; the
    validation predictions of an epoch are scored; neither training nor initialisation
    moves a global generator; on CUDA, steps are replays of a captured one where that is
    possible, and what does not fit into memory is computed in parts.

    Parameters beyond skorch's
    --------------------------
    shuffle_seed : int
    score : callable (target, outputs, weight) -> float
        Recorded as ``valid_score`` after each epoch with validation data.
    penalty : float
        Adds ``0.5 * penalty * |parameters|^2`` to the training loss.
    sparsity : float
        Adds ``sparsity * Sparsity(module)()`` to it.
    cuda_graph : {"auto", True, False}
        Whether training steps become CUDA graphs, after a few that warm up. "auto": with
        AdamW on CUDA, without callbacks for each batch, if at least 20 full batches follow.
        True raises a ValueError where it is impossible. A callback that is called once an
        epoch may change learning rates, other settings of the optimiser, and what is trained.
    """

    def __init__(
        self,
        *args: Any,
        shuffle_seed: int = 0,
        score: Score | None = None,
        penalty: float = 0.0,
        sparsity: float = 0.0,
        cuda_graph: Literal["auto", True, False] = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.shuffle_seed, self.score = shuffle_seed, score
        self.penalty, self.sparsity = penalty, sparsity
        self._edge_sizes: Sparsity | None = None  # while it trains, if they count
        self.cuda_graph, self.by_score = cuda_graph, False
        self._sharpness: Tensor | None = None  # of the members in the last epoch
        self.execution_ = Execution(torch.device(self.device), torch.float32, "full")
        self.asked_: dict[str, Any] = {}  # the training parameters it was made for
        self.target_: Any = None  # turns outputs into predictions, for scores of callbacks
        self.captured_: CapturedStep | None = None  # while it trains
        self.few_rows_: FewRows | None = None  # made by the first prediction of a few rows
        self.replayed_ = False  # whether it was used last time
        self.interrupted_ = False  # whether the user ended the last training
        self.whole_ = False  # whether an interrupt comes through, or leaves the weights so far
        self.done_ = 0  # epochs that a checkpoint brings, of those to train
        self.frugal_: Frugal | None = None  # once memory did not suffice
        self.ranks_: Ranks | None = None  # processes that train together, while they do
        self.training_: TensorData | None = None  # while it trains
        self.validation_: TensorData | None = None
        self.listeners_: Any = None  # Listeners among the callbacks, while it trains
        self._rooms: list[Batch] = []  # memory of batches, while it trains
        self._matrix: Tensor | None = None  # of what is known of the table, while it trains
        self._turned: nn.Parameter | None = None  # lies function by function meanwhile
        self._n_members = 1  # of the network
        self._weights_seen: dict[bool, list[Tensor]] = {True: [], False: []}

    _default_callbacks: ClassVar[list[tuple[str, Any]]] = []
    keeps: ClassVar[tuple[str, ...]] = ("loss",)  # what all need of what a step finds

    def twin(self) -> Self:
        """The same with weights, optimiser and history of its own: who reads this one sees no step.

        Random modules go on with their sequences.
        """
        own = ("module", "module_", "_weights_seen")
        twin = object.__new__(type(self))
        twin.__dict__.update(vars(self) | deepcopy({name: vars(self)[name] for name in own}))
        for mine, its in zip(self.module_.modules(), twin.module_.modules(), strict=True):
            if isinstance(getattr(mine, "generator", None), torch.Generator):
                its.generator = mine.generator.clone_state()
        twin.history = History(self.history)
        twin.initialize_optimizer().optimizer_.load_state_dict(
            deepcopy(self.optimizer_.state_dict())
        )
        return twin

    def fit_on(self, data: TensorData, validation: TensorData | None = None) -> "KANNet":
        """Train the initialised module for ``max_epochs`` more epochs; ends cleanly."""
        self._begin(data, validation)
        rows = {"dataset_train": data, "dataset_valid": validation}
        try:
            self.notify("on_train_begin", X=data, y=None)
            if self.ranks_ is not None:
                self._draw_apart(self.ranks_)
            try:
                for _ in range(self.max_epochs - self.done_):
                    self.notify("on_epoch_begin", **rows)
                    self.run_single_epoch(data, True, "train", self.train_step)
                    if validation is not None:
                        self.run_single_epoch(validation, False, "valid", self.validation_step)
                    self.notify("on_epoch_end", **rows)
            except (StopTraining, KeyboardInterrupt) as reason:
                self._end_early(reason)
            self.notify("on_train_end", X=data, y=None)  # a second interrupt comes through
            return self
        except torch.cuda.OutOfMemoryError as error:
            remedy = "Lower hidden_layer_sizes or grid_size, free what others hold on the card, or "
            raise with_advice(error, "training", remedy + "set device='cpu'.") from error
        finally:
            self.replayed_ = self.captured_ is not None and self.captured_.replayed
            self._free_captured()
            if self._turned is not None:
                self.optimizer_.lay(self._turned, 0)
            self.captured_ = self._edge_sizes = self.ranks_ = self._matrix = self._turned = None
            self._rooms = []

    def _begin(self, data: TensorData, validation: TensorData | None) -> None:
        """What holds for all epochs of a training."""
        self.training_, self.validation_, self.interrupted_ = data, validation, False
        self._sharpness, self._n_members = None, getattr(self.module_, "n_members", 1)
        self.generator_ = torch.Generator().manual_seed(self.shuffle_seed)
        self.done_, self.ranks_ = 0, PRESENT.get()
        if self.ranks_ is not None:
            self.ranks_.begin(self.module_, data)
        kind = torch.device(self.device).type
        if kind == "cpu":
            self._know_features(data, validation)
        self._edge_sizes = Sparsity(self.module_) if self.sparsity else None
        if kind in CAPTURING or self.cuda_graph is True:
            self.captured_ = self._captured(data)

    def _draw_apart(self, ranks: Ranks) -> None:
        """Have random modules draw other numbers in each process."""
        for module in self.module_.modules():
            if isinstance(module, Drawing):
                ranks.part_ways(module.generator_on(torch.device(self.device)))

    def agreed(self, value: float) -> float:
        """A number that processes which train together could see differently, such as a time."""
        return value if self.ranks_ is None else float(self.ranks_.agreed(value))

    def extra_state(self) -> dict[str, Any]:
        """What training depends on beside module, optimiser and callbacks, for checkpoints."""
        return {"sharpness": self._sharpness}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self._sharpness = state["sharpness"]

    def _know_features(self, data: Any, validation: Any) -> None:
        """Have what the first layer makes of x, the same in every epoch, made once for a table.

        Of training and validation rows, or of none.
        """
        if self.max_epochs == 1 or not hasattr(self.module_, "from_features"):
            return
        first = self.module_.layers[0]
        rows = len(data.y) if validation is None else max(len(data.y), len(validation.y))
        width = first.n_features
        if isinstance(data, (MadeData, StoredData)) or isinstance(validation, StoredData):
            return
        memory = rows * width * data.table.element_size()
        most = FEATURES_MEMORY * 2**20 * (FOR_PAIRS if getattr(first, "pairs", None) else 1)
        if self.listeners_.watching or memory > most:
            return
        step = max(1, _IN_CACHE // first.in_features)
        sums = self.execution_.products == "full" and not isinstance(self.optimizer_, Reml)
        with torch.no_grad():
            self._matrix = first.basis.matrix_of_terms() if sums else None
            terms = self._matrix is not None
            width -= first.in_features if terms else 0
            for part in (data,) if validation is None else (data, validation):
                if part is not data and part.table is data.table:
                    part.features = data.features[part.within]
                    continue
                part.features = part.table.new_empty(len(part.table), width)
                for x, made in zip(part.table.split(step), part.features.split(step), strict=True):
                    made.copy_(first.features(x, terms))
        size, left = self.batch_size, len(data.y) % self.batch_size
        if len(data.y) > size > _IN_CACHE / data.features.shape[1]:
            room = data.room_for(size)  # new memory would cost more than the copy
            self._rooms = [room, shortened(room, left)] if left else [room]
        weights = first.source.tensors()[0][0] if terms else None
        if isinstance(weights, nn.Parameter) and isinstance(self.optimizer_, AdamW):
            self._turned = weights
            self.optimizer_.lay(weights, 1)

    def _captured(self, data: Any) -> CapturedStep | None:
        """What is to capture the steps on these data, if they are captured."""
        n = len(data.y)
        rows = min(self.batch_size, n)
        if not is_captured(self, n // rows):
            return None
        last, left = None, n % rows
        if left and self.max_epochs >= WARM_UP + WORTH_CAPTURING:
            last = CapturedStep(self, data.room_for(left), self.eager_step)
        return CapturedStep(self, data.room_for(rows), self.eager_step, last)

    def loss_of_few(self, data: Any) -> Tensor:
        """The loss of a few rows, to see whether it is finite."""
        return self.validation_step(data[:_ROWS_TRIED])["loss"]

    def _end_early(self, reason: BaseException) -> None:
        """After StopTraining, or an interrupt, the user's or that of skorch's EarlyStopping."""
        self._drop_unfinished_epoch()
        if isinstance(reason, StopTraining) or self._stopped_by_callback():
            return
        if self.whole_ or self.ranks_ is not None:
            raise reason
        self.interrupted_ = True
        warn_caller(
            f"Interrupted after {self._done()}: the estimator is fitted with the weights so far."
        )

    def _done(self) -> str:
        return f"{len(self.history)} iterations"

    def _drop_unfinished_epoch(self) -> None:
        last = "train_loss" if self.validation_ is None else "valid_loss"
        if self.history and last not in self.history[-1]:
            self.history.pop()

    def _stopped_by_callback(self) -> bool:
        """skorch's EarlyStopping ends training by a KeyboardInterrupt of its own."""
        return any(
            isinstance(callback, EarlyStopping) and callback.misses_ == callback.patience
            for _, callback in self.callbacks_
        )

    def run_single_epoch(
        self,
        iterator: TensorData,
        training: bool,
        prefix: str,
        step_fn: Callable[..., dict[str, Tensor]],
        **fit_params: Any,
    ) -> None:
        """A pass over these rows, in batches."""
        data, done, batch_size = iterator, 0, self.batch_size
        listeners, tell = self.listeners_, self.listeners_.tell
        outputs: Tensor | None = None
        on_cpu, read = torch.device(self.device).type == "cpu", 0.0
        if on_cpu and not (training or listeners.watching):  # fewer calls
            batch_size = max(batch_size, _WATCHED // self.module_.widest_features)
        batch_size = min(batch_size, len(data.y))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        losses = total.expand(self._n_members).clone()
        self._weights_seen[training] = []
        rooms = self._rooms if self.captured_ is None else self.captured_.rooms
        shuffled = (self.generator_, rooms) if training else ()
        for batch in data.batches(batch_size, *shuffled):
            self.history.new_batch()  # skorch's Checkpoint asks for it
            tell(self, "on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            if on_cpu:  # to read one is quicker than to add it
                read += step["loss"].item() * len(batch[0])
            else:
                total.add_(step["loss"].detach(), alpha=len(batch[0]))
            if not training:  # of many batches: one tensor, and no rubble between their features
                losses += step["losses"] * len(batch[0])
                found = step["y_pred"]
                outputs = rows_like(found, len(data.y)) if outputs is None else outputs
                outputs[done : done + len(found)], done = found, done + len(found)
            shown = self._shown(batch, training, prefix) if listeners.scoring else batch
            tell(self, "on_batch_end", batch=shown, training=training, **step)
        results: dict[str, Any] = {"loss": (read + float(total)) / len(data.y) / self._n_members}
        if outputs is not None:
            results |= self._of_outputs(data, outputs, losses / len(data.y))
        for name, value in results.items():  # all or, after an interrupt, none
            self.history.record(f"{prefix}_{name}", value)
        best = f"{prefix}_loss_best"
        if best in listeners.watched:
            so_far = [row[f"{prefix}_loss"] for row in self.history]
            self.history.record(best, so_far[-1] <= min(so_far))

    def _of_outputs(self, data: TensorData, outputs: Tensor, losses: Tensor) -> dict[str, Any]:
        """The score, and each member's loss, by which its best weights are known.

        That is the negative of its score, if it is to decide; the refined loss of a target that
        has one; or else the loss.
        """
        found: dict[str, Any] = {}
        if self.score is not None:
            of_members = [outputs] if self._n_members == 1 else outputs.unbind(1)
            pairs = zip(of_members, data.weights_of_members(self._n_members), strict=True)
            scores = [self.score(data.y, *pair) for pair in pairs]
            found["score"] = sum(scores) / len(scores)
        if self.by_score:
            found["losses"] = [-score for score in scores]
        elif hasattr(self.target_, "refine"):
            refined = self.target_.refine(data.y, outputs, data.weight, self._sharpness)
            self._sharpness, losses = refined
            found["losses"] = self._with_sparsity(losses).tolist()
        elif self._n_members > 1:
            found["losses"] = losses.tolist()
        return found

    def _shown(self, batch: Batch, training: bool, prefix: str) -> tuple[Tensor, Tensor]:
        """A batch as callbacks that score want it, without weights, which are kept for them."""
        X, (y, weight) = batch
        self.history.record_batch(f"{prefix}_batch_size", len(X))
        if weight is not None:
            self._weights_seen[training].append(weight)
        return X, y

    def weights_of(self, callback: Any) -> NDArray[Any] | None:
        """Weights of the rows that a callback scores, in its order; None where all count alike.

        Of several members, which watch rows of their own, the mean of theirs.
        """
        data = self.training_ if callback.on_train else self.validation_
        if data is None or data.weight is None:
            return None
        seen = self._weights_seen[callback.on_train]
        if isinstance(callback, BatchScoring):
            weight = seen[-1]
        else:
            weight = torch.cat(seen) if callback.use_caching else data.weight
        return (weight if weight.dim() == 1 else weight.mean(1)).cpu().numpy()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.target_ is not None:
            tags.estimator_type = "classifier" if hasattr(self.target_, "classes_") else "regressor"
        return tags

    @property
    def classes_(self) -> NDArray[Any]:
        """Of a classifier: its labels, in the order of ``predict_proba``."""
        return self.target_.classes_

    def forward_iter(
        self,
        X: Any,
        training: bool = False,
        device: str | torch.device = "cpu",
        within: slice = slice(None),
    ) -> Iterator[Tensor]:
        """Raw outputs for batches of scaled inputs, a tensor or ``TensorData``, or of some rows."""
        step = self.batch_size
        if self.frugal_ is not None and self.frugal_.rows is not None:
            step = min(step, self.frugal_.rows)
        first, last, _ = within.indices(len(X))
        for start in range(first, last, step):
            rows = slice(start, min(start + step, last))
            part = X.inputs_of(rows) if isinstance(X, TensorData) else X[rows]
            with torch.set_grad_enabled(training):
                self._set_training(training)
                yield self.infer(part).to(device)

    def for_few_rows(self) -> Callable[[Tensor], Tensor]:
        """What gives the module's numbers by fewer calls, if there is such, or the module."""
        module: Any = self.module_
        if self.execution_.products != "full":
            return cast(nn.Module, module)
        made = self.few_rows_
        if made is None or not made.is_of(module):
            if not FewRows.suits(module):
                return cast(nn.Module, module)
            made = self.few_rows_ = FewRows(module)
        return made

    def outputs(self, X: Any) -> Tensor:
        """Raw outputs for scaled inputs, on the CPU; what processes read by parts, by parts."""
        ranks = X.ranks if isinstance(X, StoredData) else None
        with self.execution_.active():
            if ranks is None or len(X) < ranks.size:
                return joined(self.forward_iter(X), len(X)).detach()
            own = ranks.span(len(X))
            found = joined(self.forward_iter(X, within=own), own.stop - own.start).detach()
            return ranks.joined(found, len(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predictions in the user's units, from scaled inputs; for callbacks that score."""
        return self.target_.predictions(self.outputs(X))

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities of the classes, from scaled inputs; for callbacks that score."""
        return self.target_(self.outputs(X)).numpy()

    @property
    def eager_step(self) -> Callable[[Batch], dict[str, Any]]:
        """What a graph stands for: a step of AdamW, or an evaluation of a line search."""
        if isinstance(self.optimizer_, LINE_SEARCHED):
            return self.evaluate if self.ranks_ is None else self._summed
        return self._update

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        if self.captured_ is not None and self.captured_.updates:
            return self.captured_.run(batch)
        if isinstance(self.optimizer_, Reml):
            return {"loss": self._solved(self.optimizer_, batch)}
        return self._update(batch)

    def _solved(self, optimizer: Reml, batch: Batch) -> Tensor:
        """A step of a solver that knows the network to be linear."""
        if optimizer.settled:
            raise StopTraining
        if self.ranks_ is not None:
            raise ValueError("solver='reml' is for one process. Choose another solver.")
        known = self.training_ is not None and self.training_.features is not None
        how = batch, known, self.shuffle_seed
        return optimizer.step_on(self.module_, self.criterion_, *how)

    def _update(self, batch: Batch) -> dict[str, Any]:
        """A step of the optimiser; what its last evaluation found, for L-BFGS the accepted one."""
        found: dict[str, Any] = {}

        captured = self.captured_
        evaluate: Callable[[Batch], dict[str, Any]] = self.evaluate
        if captured is not None and not captured.updates:
            evaluate = captured.run
        elif self.ranks_ is not None:
            evaluate = self._summed

        def evaluated() -> Tensor:
            self._zero_grad_optimizer()
            found.update(evaluate(batch))
            if self.listeners_.by_hook["on_grad_computed"]:
                named = TeeGenerator(self.get_all_learnable_params())
                facts = {"named_parameters": named, "batch": batch, "training": True}
                self.listeners_.tell(self, "on_grad_computed", **facts)
            return found["loss"]

        self._step_optimizer(evaluated)
        return found

    def evaluate(
        self, batch: Batch, step: Callable[[Batch, float], dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """What a step finds, by default loss and gradients; in parts where memory is short."""
        step, full = self.gradients if step is None else step, None
        if self.frugal_ is None:
            try:
                return step(batch, 1.0)
            except torch.cuda.OutOfMemoryError as error:
                self.frugal_, full = Frugal(), error.with_traceback(None)

        def free() -> None:
            self._free_captured()
            self._zero_grad_optimizer()  # of parts that were done

        return self.frugal_.run(self.module_, batch, step, free, full)

    def own(self, batch: Batch) -> tuple[Batch, float]:
        """What this process computes of a batch, and which share of it that is."""
        return (batch, 1.0) if self.ranks_ is None else self.ranks_.own(batch)

    def _summed(self, batch: Batch) -> dict[str, Any]:
        """Loss and gradients of a batch, of which each process has a part."""
        own, part = self.own(batch)

        def step(rows: Batch, share: float) -> dict[str, Any]:
            return self.gradients(rows, share * part)

        found = self.evaluate(own, step)
        kept = {name: found[name].detach() for name in self.keeps}
        return found | cast(Ranks, self.ranks_).summed(kept, self.module_)

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        if self.ranks_ is None:
            return self.evaluate(batch, self._validated)
        own, _ = self.ranks_.own(batch)
        found = self.evaluate(own, self._validated)
        outputs = self.ranks_.joined(found["y_pred"], len(batch[0]))
        losses = self._with_sparsity(self.losses(outputs, batch[1]))
        return {"loss": losses.sum(), "losses": losses, "y_pred": outputs}

    @torch.no_grad()
    def _validated(self, batch: Batch, share: float) -> dict[str, Any]:
        self._set_training(False)
        X, y = batch
        y_pred = self._outputs(X)
        losses = self._with_sparsity(self.losses(y_pred, y)) * share
        return {"loss": losses.sum(), "losses": losses, "y_pred": y_pred}

    def _set_training(self, training: bool = True) -> None:
        """skorch walks through all modules, in every step."""
        if not self.module_.training == self.criterion_.training == training:
            super()._set_training(training)

    def _outputs(self, inputs: Tensor) -> Tensor:
        """Of the training data's rows, in their batches."""
        if self.training_ is not None and self.training_.features is not None:
            return self.module_(None, inputs, self._matrix)
        return self.module_(inputs)

    def gradients(self, batch: Batch, share: float = 1.0) -> dict[str, Any]:
        """Forward and backward pass of a batch, or of the part of one that is such a share."""
        self._set_training(True)
        X, y = batch
        y_pred = self._outputs(X)
        loss = self.get_loss(y_pred, y, training=True)
        if share != 1.0:
            loss = loss * share
        loss.backward()
        return {"loss": loss.detach(), "y_pred": y_pred.detach()}  # else the graph lived on

    def _free_captured(self) -> None:
        if self.captured_ is not None:
            self.captured_.close()

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        # The gradients of a captured step stay where they are; other steps use them too.
        if self.captured_ is not None and self.captured_.graph is not None:
            super()._zero_grad_optimizer(set_to_none=False)
            return
        for group in self.optimizer_.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def loss_by_row(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Losses (n, ...), of several members (n, n_members)."""
        if self._n_members == 1:
            found: Tensor = self.criterion_(outputs, target)
            return found
        n, members = outputs.shape[:2]
        of_all = target[:, None].expand(n, members, *target.shape[1:]).flatten(0, 1)
        by_row = self.criterion_(outputs.flatten(0, 1), of_all)
        return (by_row.flatten(1).mean(1) if by_row.dim() > 1 else by_row).view(n, members)

    def losses(self, outputs: Tensor, y_true: tuple[Tensor, Tensor | None]) -> Tensor:
        """The loss of a batch, of several members each one's (n_members,)."""
        target, weight = y_true
        by_row = self.loss_by_row(outputs, target)
        return (weighted_mean if self._n_members == 1 else losses_of_members)(by_row, weight)

    def _with_sparsity(self, losses: Tensor) -> Tensor:
        """Losses of a batch with the members' penalties; they decide which weights are best."""
        if self._edge_sizes is None:
            return losses
        return losses + self.sparsity * self._edge_sizes().view_as(losses)

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: tuple[Tensor, Tensor | None],
        X: Any = None,
        training: bool = False,
    ) -> Tensor:
        loss = self.losses(y_pred, y_true)
        if training:
            loss = self._with_sparsity(loss)
        if self._n_members > 1:
            loss = loss.sum()  # each learns as if it were alone
        if training and self.penalty:
            squares = sum(parameter.pow(2).sum() for parameter in self.module_.parameters())
            loss = loss + 0.5 * self.penalty * squares
        return loss


NET_PARAMETERS = {*signature(NeuralNet).parameters, *signature(KANNet).parameters} - {"kwargs"}
