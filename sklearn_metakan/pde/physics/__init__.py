"""Trial functions, equations and conditions: what is minimised."""
