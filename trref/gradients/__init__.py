"""Combining several gradients, of tasks or of small batches, into one direction."""
