"""What is known of `trref.diffusion.score_matching`."""

from typing import get_args

from trref.backend import xp
from trref.catalog import Deviation, Method, Objective, Transform
from trref.diffusion.score_matching import (
    Prediction,
    convert_prediction,
    flow_matching,
    noise_matching,
)

PREDICTIONS = get_args(Prediction)


def _conversion_jvp(prediction, x, tangent, **hyper):
    """Affine in the prediction: a scale, the same for jvp and vjp."""
    zero = xp.zeros_like(tangent)
    return convert_prediction(tangent, zero, **hyper)


def _conversion_vjp(prediction, x, cotangent, **hyper):
    return _conversion_jvp(prediction, x, cotangent, **hyper)


def _example(rng, size):
    shape = (size, int(rng.integers(1, 5)))
    noise = rng.standard_normal(shape)
    predicted = noise + rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal(shape)
    return {
        "predicted": predicted,
        "noise": noise,
        "weight": rng.exponential(1.0, size),
    }


def _flow_example(rng, size):
    batch = _example(rng, size)
    return {
        "predicted": batch["predicted"],
        "data": rng.standard_normal(batch["noise"].shape),
        **batch,
    }


def _conversion_example(rng, size):
    shape = (size, int(rng.integers(1, 5)))
    return {name: rng.standard_normal(shape) for name in ("prediction", "x")}


def _edge(weight):
    rows = xp.array([[1.0, -2.0], [0.5, 0.0]])
    return {"predicted": rows, "noise": 0.5 * rows, "weight": xp.array(weight)}


def _flow_edge(weight):
    batch = _edge(weight)
    return {"predicted": batch["predicted"], "data": -batch["noise"], **batch}


WEIGHTS = {"a weight of zero": [0.0, 2.0], "no weight": [0.0, 0.0]}


def _mean_over_entries(predicted, noise, weight):
    loss, gradient = noise_matching(predicted, noise, weight)
    return loss / predicted.shape[1], gradient / predicted.shape[1]


MEAN_OVER_ENTRIES = Deviation(
    "mean over entries",
    _mean_over_entries,
    seen_in="trainers that call mse_loss with its default reduction, such as diffusers' training examples",
    computes="a loss and a gradient smaller by the number of entries of an example",
)


def _data_time(predicted, data, noise, weight, *, alpha_rate=-1.0, sigma_rate=1.0):
    return flow_matching(
        predicted, data, noise, weight, alpha_rate=-alpha_rate, sigma_rate=-sigma_rate
    )


DATA_TIME = Deviation(
    "data time",
    _data_time,
    seen_in="facebookresearch/flow_matching, whose paths run from noise at 0 to data at 1",
    computes="a target of the opposite sign: the velocity from the noise to the data",
    documented=True,
)


METHOD = Method(
    key="vincent2011connection",
    provenance="partly",
    functions=(
        Objective(
            f=noise_matching,
            example=_example,
            edges={name: lambda w=w: _edge(w) for name, w in WEIGHTS.items()},
            wrt="predicted",
            deviations=(MEAN_OVER_ENTRIES,),
        ),
        Objective(
            f=flow_matching,
            example=_flow_example,
            edges={name: lambda w=w: _flow_edge(w) for name, w in WEIGHTS.items()},
            wrt="predicted",
            settings={"default": {}, "probe": {"alpha_rate": -0.7, "sigma_rate": 1.6}},
            deviations=(DATA_TIME,),
        ),
        Transform(
            f=convert_prediction,
            example=_conversion_example,
            wrt="prediction",
            jvp=_conversion_jvp,
            vjp=_conversion_vjp,
            settings={
                "default": {},
                **{
                    f"{a} to {b}": {"given": a, "wanted": b, "sigma_rate": 1.6}
                    for a in PREDICTIONS
                    for b in PREDICTIONS
                    if a != b
                },
                "probe": {
                    "given": "velocity",
                    "wanted": "score",
                    "alpha": 0.4,
                    "sigma": 1.7,
                    "alpha_rate": -0.3,
                    "sigma_rate": 2.1,
                },
            },
            refused={
                "a velocity that says nothing of the data": {
                    "given": "velocity",
                    "alpha": 0.5,
                    "sigma": 0.5,
                    "alpha_rate": 1.0,
                    "sigma_rate": 1.0,
                },
            },
        ),
    ),
)
