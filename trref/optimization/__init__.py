"""Optimisation: trust regions in their classical form, risks, surrogates, online losses, and no gradients at all."""
