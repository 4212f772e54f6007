"""What a misspelt parameter was meant to be, also where other libraries have another name."""

from collections.abc import Iterable
from difflib import get_close_matches

_ELSEWHERE = {
    "basis": "activation base_fun kernel",
    "batch_size": "batch minibatch_size",
    "degree": "k order spline_degree spline_order",
    "device": "gpu use_cuda",
    "grid_size": "grid grid_intervals n_grid n_knots num num_grids num_knots",
    "hidden_channels": "channels filters n_filters",
    "hidden_layer_sizes": "hidden hidden_dim hidden_dims hidden_layers hidden_size hidden_sizes "
    "hidden_units layer_sizes layers n_hidden neurons units width widths",
    "learning_rate": "eta learning_rate_init lr step_size",
    "learning_rate_schedule": "lr_schedule lr_scheduler schedule scheduler",
    "loss": "criterion loss_fn objective",
    "max_iter": "epochs iterations max_epochs n_epochs n_iter num_epochs steps",
    "n_iter_no_change": "early_stopping_rounds patience",
    "net_params": "net_kwargs skorch_params",
    "precision": "dtype",
    "random_state": "random_seed seed",
    "scale_inputs": "normalize scaler standardize",
    "solver": "opt optim optimizer",
    "validation_fraction": "val_fraction val_split validation_split",
    "weight_decay": "alpha l2 lamb regularization",
}


def suggest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'max_iter'?`` for "epochs", or nothing where no known name is like it."""
    names = [*known]
    meant = [ours for ours, others in _ELSEWHERE.items() if name in others.split()]
    close = [ours for ours in meant if ours in names] or get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
