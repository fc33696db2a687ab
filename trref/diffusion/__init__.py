"""Diffusion and flow models, their samplers and their guidance."""
