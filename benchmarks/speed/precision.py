"""Do TF32 and bf16 train as float32 does? Loss curves of one network on Fashion-MNIST.

    python -m benchmarks.speed.precision --device cuda [--epochs 10] [--seeds 0 1 2 3 4]

Prints, for each precision, the training loss after every epoch (mean over seeds), and how far it
lies from that of float32 in units of the standard deviation over the seeds of float32: below 2 is
within noise. Accuracy on the 10,000 test rows last.
"""

import argparse

import numpy as np
import pandas as pd
import torch

from benchmarks.common.data import load_images
from benchmarks.common.measure import add_options, describe
from benchmarks.common.report import table
from sklearn_metakan import MetaKANClassifier

PRECISIONS = ("float32", "tf32", "bf16")
# The paper's meta-learner: p = 1, relu.
NETWORK = {"hidden_layer_sizes": (256,), "n_estimators": 1, "prompt_dim": 1, "meta_hidden_dim": 32}
NETWORK |= {"meta_activation": "relu", "edge_scale": False, "n_meta_learners": "layer"}
NETWORK |= {"scale_inputs": "minmax", "early_stopping": False, "learning_rate": 0.03}
NETWORK |= {"net_params": {"optimizer__betas": (0.9, 0.999)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "device", "data-dir", "limit", seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    about = describe(torch.device(options.device))
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    data = load_images("fashion_mnist", options.data_dir)
    fitted, tested = data.train.first(options.limit), data.test.first(options.limit)
    X, X_test = fitted.rows_of_pixels(), tested.rows_of_pixels()
    rows = []
    for precision in PRECISIONS:
        more = {"max_iter": options.epochs, "device": options.device, "precision": precision}
        models = [
            MetaKANClassifier(**NETWORK, **more, random_state=seed).fit(X, fitted.y)
            for seed in options.seeds
        ]
        curves = np.array([model.loss_curve_ for model in models])  # (seeds, epochs)
        tests = [100 * model.score(X_test, tested.y) for model in models]
        if precision == "float32":
            exact, noise = curves.mean(0), curves.std(0, ddof=1)
        loss = " ".join(f"{each:.4f}" for each in curves.mean(0))
        rows.append({"precision": precision, "loss": loss, "test": np.mean(tests)})
        rows[-1] |= {"spread": np.std(tests), "far": (abs(curves.mean(0) - exact) / noise).max()}
        print(f"{precision} done", flush=True)
    columns = {"precision": "{precision}", "loss by epoch": "{loss}"}
    columns |= {"largest distance, deviations": "{far:.2f}"}
    print(table(pd.DataFrame(rows), columns | {"test %": "{test:.2f} ± {spread:.2f}"}))


if __name__ == "__main__":
    main()
