"""Looking into fitted networks: reads, never changes what it looks at."""

from sklearn_metakan.inspection.edges import EdgeDisplay
from sklearn_metakan.inspection.effects import EffectDisplay
from sklearn_metakan.inspection.explanations import Explanation, explain
from sklearn_metakan.inspection.holders import edge_importances
from sklearn_metakan.inspection.network import NetworkDisplay
from sklearn_metakan.inspection.prompts import PromptDisplay

__all__ = [
    "EdgeDisplay",
    "EffectDisplay",
    "Explanation",
    "NetworkDisplay",
    "PromptDisplay",
    "edge_importances",
    "explain",
]
