"""Inputs for methods, tests and tutorials: data, environments and frozen callables.

=============== ==========================================================================================
digits          scikit-learn's 8 × 8 handwritten digits: a fixed split, pairs of images as distributions
control         cart-pole and pendulum, many environments at once
mixtures        Gaussian mixtures with exact scores, and the noise schedule that blurs them
tokens          a verifiable token task for small autoregressive policies
convex          quadratics, linear operators, logistic regression, and Rosenbrock's function
networks        a network's loss on fixed data as a callable of its parameters
=============== ==========================================================================================

Callables are frozen dataclasses with arrays as fields, never closures: the checks can cast, move and export them.
"""
