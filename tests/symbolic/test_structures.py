"""Steps and structures on functions whose slopes are known: each finds what it is for."""

import numpy as np
import pytest
import sympy

from sklearn_metakan.symbolic.constants import Parametric, normalised, snapped
from sklearn_metakan.symbolic.curves import LIBRARY, fits
from sklearn_metakan.symbolic.edges import product_of_edges, sum_of_edges
from sklearn_metakan.symbolic.moves import moves, without_silent
from sklearn_metakan.symbolic.problem import Problem
from sklearn_metakan.symbolic.search import leaves
from sklearn_metakan.symbolic.structure import LINKS, linked
from sklearn_metakan.symbolic.terms import monomials, ratio_of_polynomials

NAMES = sympy.symbols("a b c d", positive=True)
A, B, C, D = NAMES
LINK = {link.name: link for link in LINKS}
FIT = np.arange(300) >= 60


def problem(rule, noise=0.0):
    """A rule of a, b, c, d in [1, 3], with its slopes."""
    rng = np.random.default_rng(0)
    z = rng.uniform(1, 3, size=(300, 4))
    values = [sympy.lambdify(NAMES, each)(*z.T) for each in (rule, *(rule.diff(n) for n in NAMES))]
    t, *slopes = (np.broadcast_to(each, 300).astype(float) for each in values)
    slopes = np.column_stack(slopes) * (1 + noise * rng.standard_normal((300, 4)))
    return without_silent(Problem(NAMES, z, t, t, slopes, np.ones(300), lambda inner: inner))


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (A**2 / B * sympy.sin(C), {"c"}),  # powers are divided by
        (sympy.exp(-A / B), {"b/a", "a/b"}),
        (sympy.cos(A * B * C), {"a*b*c"}),
        (sympy.log((A - B) ** 2 + 1), {"-a + b", "a - b"}),
        (sympy.sqrt(1 + A**2 + B**2), {"a**2 + b**2"}),
        (sympy.tanh(1 / A + 1 / B), {"1/b + 1/a", "1/a + 1/b"}),
        (3 * A + sympy.exp(B / 3), {"b"}),  # a slope that is constant is subtracted
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_step_leads_to_one_variable(rule, names, noise):
    reached = [set(map(str, step.names)) for _, step in moves(problem(rule, noise))]
    assert any(len(each) == 1 and each <= names for each in reached)


def test_a_step_keeps_values_and_slopes_right():
    whole = problem(A**2 * sympy.sin(B * C))
    for _, step in moves(whole):
        inner = sympy.lambdify(whole.names, step.names)(*whole.z.T)
        np.testing.assert_allclose(np.column_stack(inner), step.z, rtol=1e-12)
        exact = step.wrap(sympy.Symbol("t"))
        values = sympy.lambdify([*whole.names, sympy.Symbol("t")], exact)(*whole.z.T, step.t)
        np.testing.assert_allclose(values, whole.t, rtol=1e-9)


def test_silent_variables_are_left_out():
    assert [str(name) for name in problem(B * D**2).names] == ["b", "d"]


@pytest.mark.parametrize(
    ("make", "rule", "limit"),
    [
        (lambda p: monomials(p, LINK["t"], FIT), 2 * A * B + C / D**2, 1e-20),
        (lambda p: monomials(p, LINK["1/t^2"], FIT), 1 / sympy.sqrt(A**2 + 3 * B), 1e-20),
        (lambda p: monomials(p, LINK["log t"], FIT), sympy.exp(-A * B / C), 1e-20),
        (lambda p: ratio_of_polynomials(p, FIT), (A * C + B * D) / (A + B), 1e-18),
        (lambda p: sum_of_edges(p, LINK["t^2"], FIT, []), sympy.sqrt(A**3 + sympy.sin(B)), 1e-5),
        (lambda p: product_of_edges(p, FIT, []), 2 + sympy.sin(A) * sympy.cos(2 * B), 1e-4),
    ],
)
def test_a_structure_leaves_nothing_of_its_own_kind(make, rule, limit):
    assert min(each.left for each in make(problem(rule))) < limit


def test_other_functions_leave_something():
    rule = sympy.sin(3 * A * B) + C
    assert min(each.left for each in leaves(problem(rule), FIT, [])) > 1e-4


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_links_and_their_inverses(link):
    whole = problem(A / 6 + B / 12)
    under = linked(whole, link)
    s = sympy.Symbol("s", positive=True)
    back = sympy.lambdify(s, under.wrap(s))(under.values)
    np.testing.assert_allclose(back, whole.t, rtol=1e-12)
    step = 1e-6
    slope = (link.of(whole.t + step) - link.of(whole.t - step)) / (2 * step)
    np.testing.assert_allclose(np.abs(slope), np.abs(link.slope(whole.t)), rtol=1e-6)


def test_links_for_one_sign_take_both_signs_but_no_mixture():
    negative = problem(-A * B)
    assert linked(negative, LINK["log t"]).sign == -1
    assert linked(problem(A - B), LINK["log t"]) is None


@pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("sin", lambda z: 2 * np.sin(3 * z) - 1),
        ("exp", lambda z: 5 - np.exp(-0.7 * z)),
        ("(z + c)^-1", lambda z: 1 / (z + 0.4)),
        ("z^-2", lambda z: 3 / z**2),
        ("tanh", lambda z: np.tanh(1.3 * z)),
        ("log", np.log),
    ],
)
def test_functions_are_found_with_their_constants(name, curve):
    z = np.linspace(0.5, 4, 300)
    best = fits(z, curve(z), np.ones(300), [*LIBRARY.values()])[0]
    assert best.function.name == name and best.left < 1e-12
    x = sympy.Symbol("x", positive=True)
    found = sympy.lambdify(x, best.expression(x))(z)
    np.testing.assert_allclose(found, curve(z), atol=1e-6)


def test_constants_are_fitted_and_put_onto_plain_numbers():
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 3, size=(200, 2))
    y = X[:, 0] ** 2 / (2 * np.pi) + 0.7312 * np.cos(3 * X[:, 1])
    start = sympy.Float(0.2) * A**2 + sympy.Float(0.7) * sympy.cos(sympy.Float(2.9) * B)
    found = snapped(start, [A, B], X, y)
    assert sympy.simplify(found.coeff(A**2) - 1 / (2 * sympy.pi)) == 0
    assert float(found.coeff(sympy.cos(3 * B))) == pytest.approx(0.7312)
    noisy = snapped(start, [A, B], X, y + 0.2 * rng.standard_normal(200))
    assert np.isfinite(Parametric(noisy, [A, B])(X)).all()


@pytest.mark.parametrize(
    ("expression", "constants"),
    [
        (sympy.Float(2.5) * sympy.exp(sympy.Float(0.3) + sympy.Float(1.7) * A), 2),
        (sympy.Float(2.5) * (sympy.Float(0.5) * A + sympy.Float(1.5)), 2),
        (sympy.sqrt(sympy.Float(2.1) * A + sympy.Float(0.3) * B), 2),
    ],
)
def test_constants_that_cannot_be_told_apart_are_one(expression, constants):
    found = Parametric(normalised(expression), [A, B])
    assert len(found.values) == constants
    X = np.random.default_rng(0).uniform(1, 2, size=(20, 2))
    np.testing.assert_allclose(found(X), Parametric(expression, [A, B])(X), rtol=1e-12)
