"""Do TF32 and bf16 train as float32 does? Loss curves of one network on Fashion-MNIST.

    python benchmarks/precision.py --device cuda [--epochs 10] [--seeds 0 1 2 3 4]

Prints, for each precision, the training loss after every epoch (mean over seeds), and how far it
lies from that of float32 in units of the standard deviation over the seeds of float32: below 2 is
within noise. Accuracy on the 10,000 test rows last.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from _images_data import load
from _report import describe

from sklearn_metakan import MetaKANClassifier

PRECISIONS = ("float32", "tf32", "bf16")
NETWORK = {  # the paper's meta-learner: p = 1, relu
    "hidden_layer_sizes": (256,),
    "meta_activation": "relu",
    "edge_scale": False,
    "n_meta_learners": "layer",
    "scale_inputs": "minmax",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--limit", type=int, default=0, help="rows at most; 0: all")
    options = parser.parse_args()
    about = describe(torch.device(options.device), "python benchmarks/precision.py")
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    data = load("fashion_mnist", options.data_dir)
    fitted, tested = data.all_fitted(options.limit), data.tested(options.limit)
    X, test = (np.float32(each.X.reshape(len(each.X), -1)) / 255 for each in (fitted, tested))
    curves, accuracies = {}, {}
    for precision in PRECISIONS:
        models = [
            MetaKANClassifier(
                **NETWORK, max_iter=options.epochs, early_stopping=False, random_state=seed,
                device=options.device, precision=precision,
            ).fit(X, fitted.y)
            for seed in options.seeds
        ]  # fmt: skip
        curves[precision] = np.array([model.loss_curve_ for model in models])
        print(f"{precision} done", flush=True)
        accuracies[precision] = [100 * model.score(test, tested.y) for model in models]
    print_curves(curves, accuracies)


def print_curves(curves: dict[str, np.ndarray], accuracies: dict[str, list[float]]) -> None:
    """A row a precision; curves are (seeds, epochs)."""
    exact = curves["float32"]
    noise = exact.std(0, ddof=1)
    for precision, curve in curves.items():
        course = " ".join(f"{loss:.4f}" for loss in curve.mean(0))
        distance = np.abs(curve.mean(0) - exact.mean(0)) / noise
        print(
            f"{precision:8} loss {course}  largest distance {distance.max():.2f} deviations  "
            f"test {np.mean(accuracies[precision]):.2f} % +- {np.std(accuracies[precision]):.2f}"
        )


if __name__ == "__main__":
    main()
