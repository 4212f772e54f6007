"""Looking into fitted networks: reads, never changes what it looks at."""

from sklearn_metakan.inspection._edges import EdgeDisplay

__all__ = ["EdgeDisplay"]
