"""Training of trial functions, and the solvers that users see."""
