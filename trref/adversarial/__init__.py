"""Attacks on the inputs of a network, and training against them."""
