"""What is known of `trref.optimizers.nadam`."""

from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.nadam import init, update


def _as(form, schedule=None):
    """A form of public code, whatever is asked for."""

    def deviation(
        params,
        grads,
        state,
        *,
        lr=2e-3,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        psi=0.004,
        form=form,
        second=True,
    ):
        hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
        rate = psi if schedule is None else schedule
        return update(
            params, grads, state, **hyper, psi=rate, form=public, second=False
        )

    public = form
    return deviation


REPORT = Deviation(
    "the report's form",
    _as("report"),
    seen_in="PyTorch 2.13, optim/nadam.py; timm, optim/nadam.py (aa4b585)",
    computes="an average of constant decay, corrected by the schedule's products; no beta2 in the second moment",
)
UNSCHEDULED = Deviation(
    "no schedule",
    _as("constant"),
    seen_in="optax 0.2.8, scale_by_adam with nesterov=True",
    computes="a constant weight, and no beta2 in the second moment",
    documented=True,
)
FAST = Deviation(
    "a schedule 250 times as fast",
    _as("report", 1.0),
    seen_in="Keras 3.15, optimizers/nadam.py",
    computes="the report's form with 0.96 to the power of the step, where it is 0.004 times the step",
)

RATES = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}

METHOD = Method(
    key="dozat2016incorporating",
    provenance="reconstructed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "a fast schedule": {**RATES, "psi": 3.0},
                "PyTorch": {**RATES, "form": "report", "second": False},
                "optax": {**RATES, "form": "constant", "second": False},
                "probe": {**RATES, "psi": 7.0, "form": "report", "second": False},
            },
            limits=(
                Limit(
                    "adam.update",
                    {"lr": 0.02, "beta1": 0.0, "beta2": 0.95, "second": False},
                    {"lr": 0.02, "beta1": 0.0, "beta2": 0.95},
                ),
            ),
            deviations=(REPORT, UNSCHEDULED, FAST),
        ),
    ),
)
