"""What is known of `trref.optimizers.adamax`."""

from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.adamax import init, update


def _with_epsilon(where):
    """The rule with an epsilon there, whatever is asked for."""

    def deviation(
        params,
        grads,
        state,
        *,
        lr=2e-3,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        epsilon="nowhere",
    ):
        hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
        return update(params, grads, state, **hyper, epsilon=where)

    return deviation


INSIDE = Deviation(
    "epsilon inside the maximum",
    _with_epsilon("inside"),
    seen_in="PyTorch 2.13, optim/adamax.py; optax 0.2.8, tree_update_infinity_moment",
    computes="the maximum of the decayed one and the gradient's size plus epsilon",
)
OUTSIDE = Deviation(
    "epsilon beside the maximum",
    _with_epsilon("outside"),
    seen_in="Keras 3.15, optimizers/adamax.py",
    computes="a division by the maximum plus epsilon",
)


def _constant(inputs):
    """the gradients are constant"""
    first, *others = inputs["gradients"]
    return {**inputs, "gradients": [first, *[first] * len(others)]}


RATES = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95}

METHOD = Method(
    key="kingma2014adam",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "no momentum": {"beta1": 0.0},
                "no memory": {**RATES, "beta2": 0.0},
                "no memory, Keras": {
                    **RATES,
                    "beta2": 0.0,
                    "eps": 1e-2,
                    "epsilon": "outside",
                },
                "faster decay": RATES,
                "PyTorch": {**RATES, "eps": 1e-3, "epsilon": "inside"},
                "probe": {**RATES, "eps": 1e-3, "epsilon": "outside"},
            },
            limits=(
                Limit("adam.update", RATES, {**RATES, "eps": 1e-30}, where=_constant),
            ),
            deviations=(INSIDE, OUTSIDE),
        ),
    ),
)
