"""geoopt's Stiefel manifold takes batches, and has other names.

trref verify stiefel.project examples/adapters/geoopt_stiefel.py:project
trref verify stiefel.retract_qr examples/adapters/geoopt_stiefel.py:retract --no-gradient

Autograd cannot take its retraction, which writes over the factor: --no-gradient compares values alone.
"""

import geoopt

MANIFOLD = geoopt.EuclideanStiefel()


def project(x, z):
    return MANIFOLD.proju(x, z)


def retract(x, z):
    return MANIFOLD.retr(x, z)
