"""Optimisation: trust regions in their classical form."""
