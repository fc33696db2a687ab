"""Inputs for methods, tests and tutorials: data, environments and frozen callables.

================ =========================================================================================
data             digits (8 × 8 handwritten digits), corruptions of such images, splits (clients, classes,
                 wrong labels), moons, domains (shortcuts, groups, source and target)
losses           networks (of a flat parameter vector), samples (each sample's gradient), rows (functions
                 of inputs), convex and their Hessians in curvature, matrices, wells, landscapes,
                 scale_invariant, frames, spectral, bilevel, target_losses, residuals,
                 online (a loss a round), maps (from points to outputs)
decisions        control (cart-pole, pendulum), mdp (finite processes, known exactly), trajectories,
                 policies
tokens           tokens (a verifiable task), token_trees (students and teachers), preferences
diffusion        mixtures (exact models of noise, data and velocity), denoisers (small networks), rewards,
                 measurements
structure        graphs, dags, geometry (scenes, facts and rules), ode (with adjoint), pde (residuals on a grid)
================ =========================================================================================

Callables are frozen dataclasses with arrays as fields, never closures: the checks can cast, move and export them.
"""
