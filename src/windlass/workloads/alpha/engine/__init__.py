"""Expressions to numbers: dense arrays, numpy, and numba where it is installed."""
