"""The figure of kans.md: a small KAN, one of its edges, and what a meta-learner makes of prompts.

    python docs/explanation/draw_kan.py [--out docs/explanation/kan.png]

Nothing is trained: the curves are starting values of seed 5.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from sklearn_metakan.nn import KANLinear, MetaCoefficients, MetaLearner

SIZES = [2, 3, 1]
T = torch.linspace(-1, 1, 200)
EDGE, PALE, NODE = "tab:blue", "0.75", "0.15"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("kan.png"))
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(5)
    with plt.rc_context({"font.size": 12}):
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), width_ratios=[1.35, 1, 1.2])
        draw_network(axes[0], generator)
        draw_edge(axes[1], generator)
        draw_meta_learner(axes[2], generator)
        figure.tight_layout(w_pad=2)
        figure.savefig(options.out, dpi=130)


def draw_network(ax, generator):
    """Nodes sum; every edge has a function of its own."""
    ax.set(title="A KAN: nodes sum, edges are functions", xlim=(-0.2, 2.2), ylim=(0, 1))
    ax.axis("off")
    places = [[(k, (2 * i + 1) / (2 * n)) for i in range(n)] for k, n in enumerate(SIZES)]
    for starts, ends in pairwise(places):
        layer = KANLinear(len(starts), len(ends), generator=generator)
        with torch.no_grad():
            curves = layer.edge_functions(T[:, None].expand(-1, len(starts)))
        for i, (x0, y0) in enumerate(starts):
            for o, (x1, y1) in enumerate(ends):
                ax.plot([x0, x1], [y0, y1], color=PALE, lw=1, zorder=0)
                at = 0.5 + (0.28 * i if len(ends) > 1 else 0)  # side by side where edges cross
                middle = (x0 + at * (x1 - x0), y0 + at * (y1 - y0))
                small = ax.inset_axes(
                    [middle[0] - 0.13, middle[1] - 0.065, 0.26, 0.13], transform=ax.transData
                )
                small.plot(T, curves[:, i, o], color=EDGE, lw=1.6)
                small.set(xticks=[], yticks=[], xmargin=0.1, ymargin=0.15)
                small.spines[:].set_color(PALE)
    for column in places:
        ax.scatter(*zip(*column, strict=True), s=170, color=NODE, zorder=3)
    for name, place in zip(["$x_2$", "$x_1$"], places[0], strict=True):
        ax.annotate(name, place, (-18, -4), textcoords="offset points", fontsize=13, ha="center")
    ax.annotate("$y$", places[-1][0], (18, -4), textcoords="offset points", fontsize=13)


def draw_edge(ax, generator):
    """The weighted functions of one edge, and their sum."""
    layer = KANLinear(1, 1, generator=generator)
    with torch.no_grad():
        features = layer.basis.evaluate(T[:, None])[:, 0]  # (200, C)
        weighted = features * layer.source.block(0, 1)[0, :, 0]
    silu, *_ = ax.plot(T, weighted[:, 0], color="tab:orange", lw=1.4)
    seen = weighted[:, 1:].where(features[:, 1:] > 0, torch.nan)  # where they are not zero
    splines = ax.plot(T, seen, color="0.6", lw=1.2)
    total = ax.plot(T, weighted.sum(1), color=EDGE, lw=2.6)
    ax.set(title=r"An edge: $\phi(t) = \Sigma_c\, w_c B_c(t)$", xlabel="$t$")
    ax.legend([total[0], silu, splines[0]], ["sum", "silu", "splines"], frameon=False)


def draw_meta_learner(ax, generator):
    """One number runs through a family of functions."""
    prompts = torch.linspace(-2, 2, 9)
    learner = MetaLearner(prompt_dim=1, hidden_dim=32, n_functions=9, activation="sin")
    layer = KANLinear(1, 9, source=MetaCoefficients(1, 9, learner), generator=generator)
    with torch.no_grad():
        layer.source.prompts.copy_(prompts.reshape(1, 1, 9))
        curves = layer(T[:, None])
    colour = ScalarMappable(Normalize(-2, 2), "viridis")
    for prompt, curve in zip(prompts, curves.T, strict=True):
        ax.plot(T, curve, color=colour.to_rgba(prompt), lw=1.8)
    ax.set(title="A meta-learner: $w = M(z)$", xlabel="$t$")
    ax.figure.colorbar(colour, ax=ax, label="prompt $z$ of the edge")


if __name__ == "__main__":
    main()
