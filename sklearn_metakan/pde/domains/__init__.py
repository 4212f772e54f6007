"""Domains: where points are drawn, inside and on the boundary."""
