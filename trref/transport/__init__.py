"""Optimal transport with entropy: how to move one distribution to another at least cost, fast and differentiably."""
