"""The tests. Helpers are imported from here by their full names, such as `tests.tokens.batches`.

What rounding may do, with eps = 2.2e-16: a sum of n products errs by at most n eps times the sum of their absolute
values, on any processor. Entries of frames and other numbers of order 1, made by a few products and factorisations of
at most ten rows, thus err by a few times 10 * 10 * eps = 2e-14 at most: they are compared with ``rtol=0, atol=1e-13``.
Numbers worked out by hand, of fewer than ten operations each, are compared to 1e-14. What is worse conditioned, or ends
by a tolerance, has its own allowance. `numpy.allclose` adds a relative 1e-5 unless told: both are given.
"""
