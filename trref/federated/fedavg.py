r"""Federated averaging (FedAvg): many local steps, then one mean.

K clients hold :math:`n_k` samples each, which stay with them. What all want to minimise is the mean loss over all n
samples, a mean over clients by their shares,

.. math::
    :label: fedavg-objective

    f(w) = \sum_{k=1}^{K} \frac{n_k}{n} F_k(w), \qquad n = \sum_{k=1}^K n_k.

In each round the server sends its parameters out; every client takes them as the start of some steps of stochastic
gradient descent on its own :math:`F_k`, and sends back where it ends, :math:`w_k`. The server takes the mean, by the
same shares:

.. math::
    :label: fedavg-average

    w = \sum_{k=1}^{K} \frac{n_k}{n} w_k

If each client takes one step along the gradient of all its samples, that is a step of gradient descent on f, exactly.
With many steps it is another algorithm, that needs fewer rounds: parameters with one start may be averaged, although
the loss is not convex. Clients whose data are unlike end far apart, and then the mean is less good than any of them.

Where only some of the clients take part in a round, K and n count those.

=====================  ===================
:math:`w_k`            a row of `thetas`
:math:`n_k`            `counts`
=====================  ===================

**Where implementations differ.** Widespread code gives all clients equal weight, whatever they hold: a client with few
samples then moves the model as much as one with many, and one local step is no step on f any more.

**Provenance.** From memory of the paper, whose average is what public code computes (the clients' counts as weights in
flwr, equal weights in AshwinRJ/Federated-Learning-PyTorch); the identity with gradient descent is checked here.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas, *Communication-Efficient Learning of Deep Networks from
Decentralized Data*, 2016, arXiv:1602.05629.
"""

from trref.signature import K, P, Positive, Real, Scalar, checked


@checked
def average(thetas: Real[K, P], counts: Positive[K]) -> Real[P]:
    """The clients' parameters, averaged by how many samples they hold.

    Parameters
    ----------
    thetas
        Parameters of each client after its steps.
    counts
        Samples of each client.
    """
    return _shares(counts) @ thetas  # eq. fedavg-average


def _shares(counts):
    return counts / counts.sum()


@checked
def objective(losses: Real[K], counts: Positive[K]) -> Scalar:
    """The loss over everybody's samples, of the clients' losses.

    Parameters
    ----------
    losses
        Mean loss over each client's samples.
    """
    return _shares(counts) @ losses  # eq. fedavg-objective
