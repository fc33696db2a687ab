"""Sharpness-aware training."""
