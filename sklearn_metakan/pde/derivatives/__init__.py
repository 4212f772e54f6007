"""Derivatives through networks: exact, pushed forward from layer to layer."""
