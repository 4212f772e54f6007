"""From a fitted network to a formula: take edges out, and read what is left."""

from sklearn_metakan.symbolic.curves import edge_candidates
from sklearn_metakan.symbolic.formula import SymbolicFormula
from sklearn_metakan.symbolic.prune import prune
from sklearn_metakan.symbolic.reading import symbolic_formula

__all__ = ["SymbolicFormula", "edge_candidates", "prune", "symbolic_formula"]
