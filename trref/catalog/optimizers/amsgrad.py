"""What is known of `trref.optimizers.amsgrad`."""

from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.amsgrad import init, update


def _keras(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    corrected="nothing",
):
    """PyTorch's form with a larger epsilon, whatever else was asked for."""
    hat = eps / (1 - beta2 ** (state.step + 1)) ** 0.5
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": hat}
    return update(params, grads, state, **hyper, corrected="maximum")


AMSGRAD_EPSILON_HAT = Deviation(
    "epsilon hat",
    _keras,
    seen_in="Keras and TensorFlow, optimizers/adam.py with amsgrad=True",
    computes="both corrections as one factor of the rate, and epsilon added to the root of the uncorrected maximum",
)


def _constant(inputs):
    """The gradients are constant"""
    first, *others = inputs["gradients"]
    return {**inputs, "gradients": [first, *[first] * len(others)]}


_SHARED = {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-4}

METHOD = Method(
    key="reddi2018convergence",
    provenance="partly",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "no momentum": {"beta1": 0.0},
                "as in the paper": {
                    "lr": 0.05,
                    "beta1": 0.8,
                    "beta2": 0.95,
                    "eps": 1e-3,
                },
                "PyTorch": {"corrected": "maximum"},
                "optax": {"corrected": "moments"},
                "probe": {
                    "lr": 0.05,
                    "beta1": 0.8,
                    "beta2": 0.95,
                    "eps": 1e-3,
                    "corrected": "maximum",
                },
            },
            limits=tuple(
                Limit(
                    "adam.update",
                    {**_SHARED, "corrected": what},
                    _SHARED,
                    where=_constant,
                )
                for what in ("maximum", "moments")
            ),
            deviations=(AMSGRAD_EPSILON_HAT,),
        ),
    ),
)
