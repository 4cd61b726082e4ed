"""A portfolio under constraints: a convex problem solved again at each rebalance.

``optimized`` in rebalancing.py is the door; a :class:`Day` is what one rebalance decides on.
"""
