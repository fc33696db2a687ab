"""Graphs of causes from observations: scores of linear structural equations under acyclicity."""
