"""Memory and speed: training steps, the estimators' loop, precisions."""
