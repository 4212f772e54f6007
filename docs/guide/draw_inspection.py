"""Draw the pictures of inspection.md and additive.md: python docs/guide/draw_inspection.py"""

import argparse
from pathlib import Path

from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes, make_friedman1

from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.inspection import EffectDisplay, NetworkDisplay, explain

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("docs/guide"))
folder = parser.parse_args().out
X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
model = MetaKANRegressor(max_iter=60, random_state=0).fit(X, y)
how = {"solver": "reml", "grid_size": 20, "random_state": 0}
rows, numbers = make_friedman1(600, noise=1.0, random_state=0)
additive = KANRegressor((), interactions=1, **how).fit(rows, numbers)
pictures = {
    "additive": EffectDisplay.from_estimator(additive, rows, features=[2, 3, (0, 1)]),
    "effects": EffectDisplay.from_estimator(model, X),
    "explanation": explain(model, X[:1], background=X).plot(0),
    "network": NetworkDisplay.from_estimator(model, X),
}
for name, display in pictures.items():
    display.figure_.savefig(folder / f"{name}.png", dpi=80)
    plt.close(display.figure_)
