"""The Feynman table: units, physics, and the published table."""

import csv
import math
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklearn_metakan.datasets import feynman_equation, feynman_names, make_feynman

NAMES = feynman_names()
# SI values, CODATA 2018.
ELECTRON, CHARGE, PLANCK = 9.1093837015e-31, 1.602176634e-19, 6.62607015e-34
VACUUM, LIGHT, GRAVITY = 8.8541878128e-12, 299792458.0, 6.67430e-11


def value(name, **variables):
    """The formula, by the names of its variables."""
    equation = feynman_equation(name)
    assert {variable.name for variable in equation.variables} == {*variables}
    columns = np.broadcast_arrays(*(variables[v.name] for v in equation.variables))
    return equation(np.stack([np.ravel(column).astype(float) for column in columns], axis=1))


def columns_of(name):
    X, y = make_feynman(name, 50, random_state=0)
    return dict(zip([v.name for v in feynman_equation(name).variables], X.T, strict=True)), y


def factor(unit, scales):
    """By what a quantity's number changes if the base units do: "kg m s-2" -> kg m / s^2."""
    parts = [re.fullmatch(r"(kg|m|s|A|K)(-?\d+)?", part) for part in unit.split()]
    return math.prod(scales[part[1]] ** int(part[2] or 1) for part in parts)


@pytest.mark.parametrize("name", NAMES)
def test_units_agree(name):
    """Physics does not depend on units: change those of mass, length, time, current, heat."""
    equation = feynman_equation(name)
    scales = dict(zip(["kg", "m", "s", "A", "K"], [0.7, 1.9, 1.3, 0.6, 1.4], strict=True))
    X, y = make_feynman(name, 50, random_state=0)
    rescaled = X * [factor(variable.unit, scales) for variable in equation.variables]
    assert_allclose(equation(rescaled), y * factor(equation.unit, scales), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_has_an_effect(name):
    equation = feynman_equation(name)
    X, y = make_feynman(name, 50, random_state=0)
    for i in range(X.shape[1]):
        moved = X.copy()
        moved[:, i] = np.roll(X[:, i], 1)
        assert not np.allclose(equation(moved), y, rtol=1e-6), equation.variables[i].name


def test_equals_the_published_table(data_dir):
    """Formulas, variables and ranges, row by row."""
    path = data_dir / "feynman" / "FeynmanEquations.csv"
    if not path.is_file():
        # The reason: the table is public data, never copied into the project, so a clone by itself
        # has nothing to compare with. Where the file lies, as beside the project, this test runs.
        pytest.skip(f"public data, no part of the project: {path}; name its folder with --data-dir")
    names = ("exp", "sqrt", "sin", "cos", "arcsin", "tanh")
    known = {"pi": np.pi, "ln": np.log} | {name: getattr(np, name) for name in names}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Filename"] for row in rows] == NAMES
    for row in rows:
        equation = feynman_equation(row["Filename"])
        count = sum(bool(row[f"v{i}_name"]) for i in range(1, 11))
        published = [
            (row[f"v{i}_name"], (float(row[f"v{i}_low"]), float(row[f"v{i}_high"])))
            for i in range(1, count + 1)
        ]
        assert [(v.name, v.limits) for v in equation.variables] == published
        assert equation.output == row["Output"]
        columns, y = columns_of(equation.name)
        assert_allclose(eval(row["Formula"], known, columns), y, rtol=1e-9, atol=1e-12)


def test_hydrogen():
    """Bohr radius and energy of the ground state."""
    radius = value("I.38.12", m=ELECTRON, q=CHARGE, h=PLANCK, epsilon=VACUUM)
    energy = value("III.19.51", m=ELECTRON, q=CHARGE, h=PLANCK, n=[1, 2], epsilon=VACUUM)
    assert_allclose(radius, 5.29177e-11, rtol=1e-5)
    assert_allclose(energy / CHARGE, [-13.6057, -3.4014], rtol=1e-4)
    potential = value("I.12.4", q1=CHARGE, epsilon=VACUUM, r=radius) * radius * CHARGE
    assert_allclose(energy[0], -potential / 2)  # virial theorem


def test_constants_of_nature():
    magneton = value("II.34.29a", q=CHARGE, h=PLANCK, m=ELECTRON)
    assert_allclose(magneton, 9.2740e-24, rtol=1e-4)
    wire = value("II.13.17", epsilon=VACUUM, c=LIGHT, I=1.0, r=1.0)
    assert_allclose(wire, 2e-7, rtol=1e-6)  # the old definition of the ampere
    weight = value("I.9.18", m1=5.972e24, m2=1, G=GRAVITY, x1=0, x2=6.371e6, y1=0, y2=0, z1=0, z2=0)
    assert_allclose(weight, 9.82, rtol=1e-3)
    assert_allclose(value("I.6.2a", theta=[0.0, 1.0]), [0.398942, 0.241971], rtol=1e-5)


def test_relativity():
    rng = np.random.default_rng(0)
    x, t, c = rng.uniform(1, 2, (3, 20))
    u, v = c * rng.uniform(-0.9, 0.9, (2, 20))
    moved_x, moved_t = (value(f"I.15.3{of}", x=x, u=u, c=c, t=t) for of in "xt")
    assert_allclose(moved_x**2 - (c * moved_t) ** 2, x**2 - (c * t) ** 2)
    energy = value("I.48.20", m=t, v=v, c=c)
    momentum = value("I.15.10", m_0=t, v=v, c=c)
    assert_allclose(energy**2 - (momentum * c) ** 2, (t * c**2) ** 2)
    assert_allclose(energy, value("I.10.7", m_0=t, v=v, c=c) * c**2)
    assert_allclose(value("I.16.6", u=u, v=c, c=c), c)  # light is as fast for everyone
    assert_allclose(value("I.16.6", u=u, v=0, c=c), u)
    doppler = value("I.34.14", c=c, v=v, omega_0=t)
    classical = value("I.34.10", c=c, v=v, omega_0=t)
    assert_allclose(doppler, classical * np.sqrt(1 - (v / c) ** 2))
    density = value("II.13.23", rho_c_0=t, v=v, c=c)
    assert_allclose(value("II.13.34", rho_c_0=t, v=v, c=c), density * v)


def test_geometry():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 20))
    s, t = rng.uniform(0, 2 * np.pi, (2, 20))
    cartesian = {"x1": a * np.cos(s), "y1": a * np.sin(s), "x2": b * np.cos(t), "y2": b * np.sin(t)}
    assert_allclose(value("I.29.16", x1=a, x2=b, theta1=s, theta2=t), value("I.8.4", **cartesian))
    same = value("I.29.16", x1=a, x2=a, theta1=s, theta2=s)  # no root of a negative number
    assert_allclose(same, 0, atol=1e-12)
    lying = {"x": 2 * np.sin(s), "y": 0, "z": 2 * np.cos(s)}
    field = value("II.6.15a", epsilon=1, p_d=1, r=2, **lying)
    polar = value("II.6.15b", epsilon=1, p_d=1, theta=s, r=2)
    assert_allclose(abs(field), abs(polar), atol=1e-12)


def test_mechanics():
    columns, centre = columns_of("I.18.4")
    lower, upper = np.sort([columns["r1"], columns["r2"]], axis=0)
    assert ((lower <= centre) & (centre <= upper)).all()
    torque = value("I.18.12", r=2, F=3, theta=[0, np.pi / 2])
    assert_allclose(torque, [0, 6], atol=1e-12)
    assert_allclose(value("I.44.4", n=1, kb=1, T=1, V1=[1, 1], V2=[1, np.e]), [0, 1], atol=1e-12)
    assert_allclose(value("I.50.26", x1=2, omega=3, t=0, alpha=0.5), 3)


def test_interference():
    """Two slits are two equal sources; many are bright in the middle."""
    phase = np.linspace(0.3, 3, 7)
    grating = value("I.30.3", Int_0=1, theta=phase, n=2)
    assert_allclose(grating, value("I.37.4", I1=1, I2=1, delta=phase))
    assert_allclose(value("I.30.3", Int_0=1, theta=1e-6, n=[1, 3, 5]), [1, 9, 25], rtol=1e-6)
    resonance = value("III.9.52", p_d=1, Ef=1, t=1, h=2 * np.pi, omega=2, omega_0=[2, 2 + 1e-7])
    assert_allclose(resonance, 1, rtol=1e-6)


def test_statistics():
    x = np.array([1e-6, 1.0, 3.0])
    bose = value("III.4.32", h=2 * np.pi, omega=x, kb=1, T=1)
    assert_allclose(bose, 1 / (np.exp(x) - 1), rtol=1e-6)
    energy = value("III.4.33", h=2 * np.pi, omega=x, kb=1, T=1)
    assert_allclose(energy, x * bose)
    assert_allclose(energy[0], 1, rtol=1e-5)  # equipartition
    up, down = np.exp(0.7), np.exp(-0.7)
    magnet = value("II.35.21", n_rho=1, mom=0.7, B=1, kb=1, T=1)
    assert_allclose(magnet / 0.7, (up - down) / (up + down))
    assert_allclose(value("II.35.18", n_0=1, mom=0.7, B=1, kb=1, T=1), 1 / (up + down))
    assert_allclose(value("III.14.14", I_0=2, q=0.7, Volt=1, kb=1, T=1), 2 * (up - 1))
    assert_allclose(value("I.40.1", n_0=2, m=1, g=0.7, x=[0, 1], kb=1, T=1), [2, 2 * down])
