"""Optimisation: trust regions in their classical form, risks, surrogates, online losses, and search without gradients."""
