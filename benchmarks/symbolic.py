"""Formulas recovered from tables, by one chain with defaults: fit, prune, symbolic_formula.

    python -m benchmarks.symbolic [--functions chosen|feynman|NAME ...] [--noise 0 0.01] [--jobs N]
        [--model MetaKAN|KAN|pykan]
    python -m benchmarks.symbolic --sparsity 0 0.001 0.01

Twelve chosen functions, and the hundred of the Feynman table, 1,000 rows each. Noise is a share of
y's standard deviation. "pykan" is the chain of its README (train sparsely, prune, train, refine,
train, auto_symbolic, train) on columns scaled to [-1, 1]; the package has to be there. Recovered:
the expression has the form of the rule, and its constants agree with those of the rule in three
digits. A run has a thread; rows go into the CSV as they come.

``--sparsity`` trains one network of 2-8-8-1 for exp(sin(pi x) + y^2) with each of these values, and
counts the edges of each layer whose size is at least 3 % of the largest one's.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import sympy
import torch
from sklearn.preprocessing import MinMaxScaler
from threadpoolctl import threadpool_limits

import sklearn_metakan
from benchmarks.common.report import publish, table
from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.datasets import feynman_equation, feynman_names, make_feynman
from sklearn_metakan.nn import Sparsity
from sklearn_metakan.symbolic import prune, symbolic_formula
from sklearn_metakan.symbolic.constants import Parametric

N_ROWS = 1000
DIGITS = 5e-3  # largest difference of constants that agree in three digits, as a share
SAME = 1e-16  # error, as a share of y's variance, of a form that can be the rule
MODELS: dict[str, Callable[..., Any]] = {"MetaKAN": MetaKANRegressor, "KAN": KANRegressor}
NUMBERS = ["error", "network", "numbers", "pruned", "fit_seconds", "prune_seconds", "read_seconds"]
PYKAN_LIBRARY = ["x", "x^2", "x^3", "x^4", "exp", "log", "sqrt", "tanh", "sin", "abs", "1/x"]
OWN = {  # rule, and the range of its columns, which are in the order of the alphabet
    "x y": ("x*y", (-1, 1)),
    "x / y": ("x/y", (1, 5)),
    "sin(pi x) + y^2": ("sin(pi*x) + y**2", (-1, 1)),
    "exp(sin(pi x) + y^2)": ("exp(sin(pi*x) + y**2)", (-1, 1)),
    "distance": ("sqrt((x1 - x2)**2 + (y1 - y2)**2)", (-1, 1)),
}
CHOSEN = [*OWN, "I.6.20a", "I.12.5", "I.14.3", "I.18.4", "I.27.6", "I.29.4", "I.34.27"]
COLUMNS = {
    "function": "{function}",
    "noise": "{noise:g}",
    "recovered": "{found}",
    "formula": "`{formula}`",
    "1 - R2": "{error:.1e}",
    "of the network": "{network:.1e}",
    "numbers": "{numbers:.0f}",
    "after pruning": "{pruned:.0f}",
    "fit s": "{fit_seconds:.0f}",
    "prune s": "{prune_seconds:.0f}",
    "read s": "{read_seconds:.0f}",
}


class Case(NamedTuple):
    """A table and the rule behind it."""

    X: pd.DataFrame
    y: Any
    rule: Any


def case(name: str, noise: float, seed: int = 0) -> Case:
    """1,000 rows of a function, with noise of this share of y's standard deviation."""
    rng = np.random.default_rng(seed)
    if name in OWN:
        text, (low, high) = OWN[name]
        names = sorted(map(str, sympy.sympify(text).free_symbols))
        X = pd.DataFrame(rng.uniform(low, high, (N_ROWS, len(names))), columns=names)
    else:
        X, _ = make_feynman(name, N_ROWS, random_state=seed, as_frame=True)
        text = feynman_equation(name).formula
    known = {column: sympy.Symbol(column) for column in X}
    known |= {
        "hypot": lambda a, b: sympy.sqrt(a**2 + b**2),
        "arcsin": sympy.asin,
        "expm1": lambda a: sympy.exp(a) - 1,
        "sinc": lambda a: sympy.sin(sympy.pi * a) / (sympy.pi * a),
    }
    rule = sympy.sympify(text, locals=known)
    y = sympy.lambdify([*known.values()][: X.shape[1]], rule, "numpy")(*X.to_numpy().T)
    return Case(X, y + noise * np.std(y) * rng.standard_normal(N_ROWS), rule)


def recovered(found: Any, case: Case) -> bool:
    """Whether an expression has the form of the rule and, in three digits, its constants.

    With its decimal numbers fitted to rows without noise it has to be the rule to rounding, and
    none may have moved by more than three digits show.
    """
    columns = [*map(sympy.Symbol, case.X)]
    if not found.free_symbols <= {*columns} or found.free_symbols != case.rule.free_symbols:
        return False
    X = case.X.to_numpy()
    exact = sympy.lambdify(columns, case.rule, "numpy")(*X.T)
    parametric = Parametric(found, columns)
    before = parametric.values.copy()
    parametric.fitted(X, exact)
    near = np.abs(parametric.values - before) <= DIGITS * np.abs(before)
    return bool(near.all()) and parametric.error(X, exact) < SAME


def ours(given: Case, model: str) -> tuple[Any, dict[str, Any]]:
    """A formula by one chain, and what is known of the way."""
    marks = [time.perf_counter()]
    fitted = MODELS[model](random_state=0).fit(given.X, given.y)
    marks.append(time.perf_counter())
    small = prune(fitted, X=given.X, y=given.y)
    marks.append(time.perf_counter())
    formula = symbolic_formula(small, given.X, given.y)
    marks.append(time.perf_counter())
    counts = fitted.n_parameters_, small.n_parameters_
    known = 1 - formula.r2, 1 - formula.estimator_r2, *counts, *np.diff(marks)
    return formula.expression, dict(zip(NUMBERS, known, strict=True))


def pykan(given: Case, model: str) -> tuple[Any, dict[str, Any]]:
    """The same by pykan's README; pruning is part of its fit."""
    import kan  # where it is installed

    start = time.perf_counter()
    scaler = MinMaxScaler((-1, 1)).fit(given.X)
    x = torch.tensor(scaler.transform(given.X), dtype=torch.float32)
    y = torch.tensor(np.asarray(given.y), dtype=torch.float32)[:, None]
    data = {"train_input": x, "train_label": y, "test_input": x, "test_label": y}
    folder = TemporaryDirectory()
    network = kan.KAN([x.shape[1], 5, 1], grid=3, k=3, seed=0, ckpt_path=folder.name)
    network.fit(data, opt="LBFGS", steps=50, lamb=0.001)
    network = network.prune()
    network.fit(data, opt="LBFGS", steps=50)
    network = network.refine(10)
    network.fit(data, opt="LBFGS", steps=50)
    middle = time.perf_counter()
    network.auto_symbolic(lib=PYKAN_LIBRARY, verbose=0)
    network.fit(data, opt="LBFGS", steps=50)
    expression = network.symbolic_formula()[0][0]
    seconds = time.perf_counter() - middle
    inputs = {
        f"x_{k + 1}": a * sympy.Symbol(column) + b
        for k, (column, a, b) in enumerate(zip(given.X, scaler.scale_, scaler.min_, strict=True))
    }
    found = sympy.sympify(str(expression)).subs(inputs)
    error = float(((network(x) - y) ** 2).mean() / y.var())
    numbers = sum(parameter.numel() for parameter in network.parameters())
    known = error, np.nan, numbers, np.nan, middle - start, 0.0, seconds
    return found, dict(zip(NUMBERS, known, strict=True))


def run(name: str, noise: float, model: str) -> dict[str, Any]:
    """One chain, as a row of the table."""
    given = case(name, noise)
    torch.set_num_threads(1)  # joblib gives its workers more
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        try:
            formula, known = (pykan if model == "pykan" else ours)(given, model)
        except Exception as error:
            if model != "pykan":
                raise
            text = f"{type(error).__name__}: {error}"
            formula, known = sympy.nan, dict.fromkeys(NUMBERS, np.nan) | {"failed": text}
    found = "yes" if formula is not sympy.nan and recovered(formula, given) else "no"
    return {
        "function": name,
        "noise": noise,
        "model": model,
        "found": found,
        "formula": known.pop("failed", str(formula)),
        **known,
    }


def edges_left(model: str, sparsity: float) -> dict[str, Any]:
    """Edges that do some work after a fit with this sparsity, and the error on new rows."""
    given, new = (case("exp(sin(pi x) + y^2)", 0.0, seed) for seed in (0, 1))
    fitted = MODELS[model]((8, 8), n_estimators=1, sparsity=sparsity, random_state=0)
    fitted.fit(given.X, given.y)
    counts = [int((m > 0.03 * m.max()).sum()) for m in Sparsity(fitted.module_).sizes()]
    error = np.mean((fitted.predict(new.X) - new.y) ** 2) / np.var(new.y)
    edges = ", ".join(map(str, counts))
    return {"model": model, "sparsity": sparsity, "edges": edges, "error": error}


def report(rows: pd.DataFrame) -> list[str]:
    """Markdown: how many were recovered, then each function."""
    counts = []
    for (model, noise), part in rows.groupby(["model", "noise"]):
        for group, names in (("chosen", CHOSEN), ("Feynman", feynman_names())):
            own = part[part["function"].isin(names)]
            if len(own):
                seconds = own[["fit_seconds", "prune_seconds", "read_seconds"]].sum(axis=1)
                found = f"{(own['found'] == 'yes').sum()} of {len(own)}"
                row = {"model": model, "noise": noise, "group": group, "found": found}
                counts.append(row | {"longest": seconds.max(), "median": seconds.median()})
    titles = {"model": "{model}", "noise": "{noise:g}", "functions": "{group}"}
    titles |= {"recovered": "{found}", "median s": "{median:.0f}", "longest s": "{longest:.0f}"}
    versions = (
        f"sklearn_metakan {sklearn_metakan.__version__}, sympy {sympy.__version__}, "
        f"numpy {np.__version__}."
    )
    return [versions, table(pd.DataFrame(counts), titles), table(rows, COLUMNS)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", nargs="+", default=["chosen"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0])
    parser.add_argument("--model", choices=[*MODELS, "pykan"], default="MetaKAN")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--sparsity", nargs="+", type=float)
    options = parser.parse_args(arguments)
    if options.sparsity:
        found = pd.DataFrame([edges_left(m, each) for m in MODELS for each in options.sparsity])
        columns = {"model": "{model}", "sparsity": "{sparsity:g}", "edges": "{edges}"}
        publish([table(found, columns | {"error": "{error:.1e}"})], options.out / "sparsity.md")
        return
    names = []
    for each in options.functions:
        names += {"chosen": CHOSEN, "feynman": feynman_names()}.get(each, [each])
    todo = [(name, noise, options.model) for noise in options.noise for name in names]
    options.out.mkdir(parents=True, exist_ok=True)
    path, rows = options.out / "symbolic.csv", []
    work = joblib.Parallel(options.jobs, return_as="generator_unordered")
    for row in work(joblib.delayed(run)(*each) for each in todo):
        rows.append(row)
        pd.DataFrame(rows).to_csv(path, index=False)
    order = {name: place for place, name in enumerate(names)}
    found = pd.DataFrame(rows)
    found = found.iloc[np.lexsort([found["function"].map(order), found["noise"]])]
    publish(report(found), options.out / "symbolic.md")


if __name__ == "__main__":
    main()
