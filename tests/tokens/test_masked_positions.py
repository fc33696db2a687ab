"""What stands at masked positions changes nothing, and has gradient exactly 0: for every objective with a mask."""

import numpy as np
import pytest

from trref import catalog

METHODS = [m for m in catalog.methods() if m.family == "tokens"]
RECORDS = [r for m in METHODS for r in m.functions if isinstance(r, catalog.Objective) and "mask" in r.inputs]


def _garbage(inputs, specs, rng):
    """Other valid numbers wherever the mask is 0."""
    B, T = inputs["mask"].shape
    padding, spoiled = inputs["mask"] == 0, {}
    for name, value in inputs.items():
        shape, kind = np.shape(value), specs[name].kind
        if name == "mask" or shape[:2] != (B, T):
            spoiled[name] = value
            continue
        if kind == "index":
            other = rng.integers(0, value.max() + 1, shape)
        elif kind == "mask":
            other = (rng.random(shape) < 0.5).astype(float)
        elif kind == "log_prob":
            other = -14 * rng.random(shape)
        elif name.endswith("logits"):
            other = 3 * rng.standard_normal(shape)
        else:
            other = 1e3 * rng.standard_normal(shape)
            other = abs(other) if kind in ("positive", "nonnegative") else other
        spoiled[name] = np.where(padding.reshape(B, T, *[1] * (len(shape) - 2)), other, value)
    return spoiled


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
@pytest.mark.parametrize("seed", range(3))
def test_padding_does_not_matter(record, seed):
    example = record.example(np.random.default_rng([seed, 5]), 5)
    assert (example["mask"] == 0).any()
    for hyper in record.settings.values():
        value, gradient = record(example, dict(hyper))
        again, other = record(_garbage(example, record.inputs, np.random.default_rng(seed)), dict(hyper))
        assert again == pytest.approx(value, rel=1e-13, abs=1e-300)
        assert not np.asarray(gradient)[example["mask"] == 0].any()
        assert not np.asarray(other)[example["mask"] == 0].any()
        assert np.allclose(gradient, other, rtol=1e-13, atol=0)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
def test_without_tokens_there_is_nothing(record):
    example = record.example(np.random.default_rng(1), 4)
    value, gradient = record({**example, "mask": np.zeros_like(example["mask"])}, dict(record.settings["default"]))
    assert value == 0 and not gradient.any()
