"""Policy optimisation: surrogates, trust regions, advantage estimation."""
