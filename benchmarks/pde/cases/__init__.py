"""Equations that others use as examples, stated in our form, with references computed here.

``CASES`` are stated; ``LEFT_OUT`` says why others are not.
"""

from collections.abc import Callable

from benchmarks.pde.cases.case import Case, error_of, statement_lines
from benchmarks.pde.cases.evolution import EVOLUTION
from benchmarks.pde.cases.fractional import FRACTIONAL
from benchmarks.pde.cases.inverse import INVERSE
from benchmarks.pde.cases.ordinary import ORDINARY
from benchmarks.pde.cases.steady import STEADY

CASES: dict[str, Callable[[], Case]] = {
    **ORDINARY,
    **STEADY,
    **EVOLUTION,
    **FRACTIONAL,
    **INVERSE,
}

_FRACTIONAL = "no fractional Laplacian in a disc or ball, and no order that is unknown"
_MESHED = "can be stated; its reference is of a commercial solver and was not computed here"
_FILE = "can be stated; its coefficients or first values are a file that is not here"
LEFT_OUT = {
    "DeepXDE: fractional_Poisson_2d": _FRACTIONAL,
    "DeepXDE: fractional_Poisson_3d": _FRACTIONAL,
    "DeepXDE: fractional_Poisson_1d_inverse": _FRACTIONAL,
    "DeepXDE: fractional_Poisson_2d_inverse": _FRACTIONAL,
    "DeepXDE: Navier_Stokes_inverse": _FILE,
    "PINNacle: Burgers2d-C": _FILE,
    "PINNacle: Poisson3d-CG": _MESHED,
    "PINNacle: Poisson2d-MS": _FILE,
    "PINNacle: Heat2d-VC": _FILE,
    "PINNacle: Heat2d-CG": _MESHED,
    "PINNacle: NS2d-CG": _MESHED,
    "PINNacle: NS2d-LT": _MESHED,
    "PINNacle: Wave2d-CG": _FILE,
    "PINNacle: Wave2d-MS": "what its code compares with does not solve the equation it states",
}

__all__ = ["CASES", "LEFT_OUT", "Case", "error_of", "statement_lines"]
