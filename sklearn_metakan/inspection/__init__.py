"""Looking into fitted networks: reads, never changes what it looks at."""

from sklearn_metakan.inspection.edges import EdgeDisplay

__all__ = ["EdgeDisplay"]
