"""Optimisation on matrix manifolds."""
