"""Optimisation: trust regions in their classical form, risks, surrogates, constraints, and no gradients at all."""
