"""Quantitative factors: expressions searched, evaluated honestly, gated by statistics with measured error rates."""
