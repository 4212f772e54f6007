"""Accuracy on tables: defaults beside scikit-learn's own, and what they were chosen by."""
