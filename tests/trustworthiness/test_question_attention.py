"""Queries that read a question and an image: permutations, masks, blindness, symmetry, and every derivative."""

import numpy as np
import pytest

from trref.nn import flat
from trref.nn.multihead import MultiHeadWeights, multi_head, multi_head_vjp
from trref.trustworthiness.question_attention import (
    attention_maps,
    layout,
    question_attention,
    question_attention_vjp,
)

SIZES = {"heads": 2, "hidden": 5, "layers": 2, "width": 3}


def _inputs(seed, *, N=3, R=3, D=4, L=2, P=5, V=3, layers=2):
    rng = np.random.default_rng(seed)
    shapes = layout(dim=D, vision=V, tokens=L, hidden=5, layers=layers, width=3)
    theta = 0.5 * rng.standard_normal(flat.size(list(shapes.values())))
    mask = np.ones((N, P))
    mask[0, 3:] = 0
    return {
        "queries": rng.standard_normal((R, D)),
        "patches": rng.standard_normal((N, P, V)),
        "theta": theta,
        "question": rng.standard_normal((N, L, D)) if L else None,
        "mask": mask,
    }


def _named(theta, *, D=4, L=2, V=3, layers=2):
    shapes = layout(dim=D, vision=V, tokens=L, hidden=5, layers=layers, width=3)
    return dict(zip(shapes, flat.split(theta, list(shapes.values())), strict=True))


def test_heads_by_loops():
    """Each head and each row by itself, with masked keys left out."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 6))
    shapes = [(4, 4), (4,), (6, 4), (4,), (6, 4), (4,), (4, 4), (4,)]
    w = MultiHeadWeights(*(rng.standard_normal(shape) for shape in shapes))
    mask = np.array([[1.0, 1, 0, 1, 0], [1, 1, 1, 1, 1]])
    out, A = multi_head(x, y, w, heads=2, mask=mask)
    for n in range(2):
        keep = mask[n] > 0
        for t in range(3):
            mixed = []
            for h in range(2):
                part = slice(2 * h, 2 * h + 2)
                q = (x[n, t] @ w.W_query + w.b_query)[part]
                k = (y[n, keep] @ w.W_key + w.b_key)[:, part]
                v = (y[n, keep] @ w.W_value + w.b_value)[:, part]
                p = np.exp(k @ q / np.sqrt(2))
                p = p / p.sum()
                assert np.allclose(A[n, h, t, keep], p, rtol=1e-10) and (A[n, h, t, ~keep] == 0).all()
                mixed.append(p @ v)
            assert np.allclose(out[n, t], np.concatenate(mixed) @ w.W_out + w.b_out, rtol=1e-10, atol=1e-12)


def test_limits_of_attention():
    """One key: its value; no scores: the mean of the values; a constant added to a query's scores: nothing."""
    rng = np.random.default_rng(1)
    x, y, eye = rng.standard_normal((1, 2, 4)), rng.standard_normal((1, 3, 4)), np.eye(4)
    b, zero = np.zeros(4), np.zeros((4, 4))
    plain = MultiHeadWeights(eye, b, eye, b, eye, b, eye, b)
    assert np.allclose(multi_head(x, y[:, :1], plain, heads=2)[0], y[:, :1])
    assert np.allclose(multi_head(x, y, plain._replace(W_query=zero), heads=2)[0], y.mean(1))
    moved = plain._replace(b_key=rng.standard_normal(4))
    assert np.allclose(multi_head(x, y, moved, heads=2)[1], multi_head(x, y, plain, heads=2)[1], rtol=1e-12)
    by = multi_head_vjp(x, y, plain, rng.standard_normal((1, 2, 4)), heads=2)
    assert abs(by.weights.b_key).max() < 1e-15


@pytest.mark.parametrize("question", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_every_derivative(question, layers):
    """Along random directions of the queries, the question, the patches and all weights, by differences."""
    inputs = _inputs(2, L=2 if question else 0, layers=layers)
    sizes = {**SIZES, "layers": layers}
    rng = np.random.default_rng(3)
    C = rng.standard_normal(question_attention(**inputs, **sizes).shape)
    by = question_attention_vjp(**inputs, cotangent=C, **sizes)
    step = 1e-5
    for name, gradient in by._asdict().items():
        if gradient.size == 0:
            assert name == "question" and not question
            continue
        for _ in range(8):
            d = rng.choice([-1.0, 1.0], gradient.shape)
            ahead, behind = (
                (C * question_attention(**{**inputs, name: inputs[name] + s * d}, **sizes)).sum() for s in (step, -step)
            )
            slope = (ahead - behind) / (2 * step)
            scale = abs(gradient).sum()
            assert (gradient * d).sum() == pytest.approx(slope, abs=1e-7 * scale), name


def test_every_weight_has_a_derivative():
    """All of them but offsets of keys, and what only the last text rows see."""
    inputs = _inputs(4)
    C = np.random.default_rng(5).standard_normal((3, 3, 3))
    by = _named(question_attention_vjp(**inputs, cotangent=C, **SIZES).theta)
    silent = {name for name, part in by.items() if abs(part).max() < 1e-12}
    assert silent == {n for n in by if n.endswith("b_key") or n.startswith("1.text")}


def test_patches_have_no_order_and_queries_keep_theirs():
    inputs = _inputs(6)
    Z = question_attention(**inputs, **SIZES)
    order = np.array([4, 2, 0, 1, 3])
    moved = {**inputs, "patches": inputs["patches"][:, order].copy(), "mask": inputs["mask"][:, order].copy()}
    assert np.allclose(question_attention(**moved, **SIZES), Z, rtol=1e-10, atol=1e-12)
    turned = {**inputs, "queries": inputs["queries"][::-1].copy()}
    assert np.allclose(question_attention(**turned, **SIZES), Z[:, ::-1], rtol=1e-10, atol=1e-12)


def test_padding_is_never_read():
    inputs = _inputs(7)
    other = inputs["patches"].copy()
    other[0, 3:] = 1e6 * np.random.default_rng(8).standard_normal((2, 3))
    assert (question_attention(**{**inputs, "patches": other}, **SIZES) == question_attention(**inputs, **SIZES)).all()
    maps = attention_maps(**inputs, **SIZES)
    assert (maps[0, :, :, 3:] == 0).all() and np.allclose(maps.sum(-1), 1)
    cut = {n: v[:1, :3].copy() if n in ("patches", "mask") else v for n, v in inputs.items()}
    cut["question"] = inputs["question"][:1]
    assert np.allclose(question_attention(**cut, **SIZES), question_attention(**inputs, **SIZES)[:1], rtol=1e-12)
    by = question_attention_vjp(**inputs, cotangent=np.ones((3, 3, 3)), **SIZES)
    assert (by.patches[0, 3:] == 0).all()


def test_the_question_comes_in_through_self_attention_only():
    """One layer without it, whatever is asked: the output of its heads set to 0."""
    inputs = _inputs(9, layers=1)
    sizes = {**SIZES, "layers": 1}
    other = {**inputs, "question": -inputs["question"]}
    assert abs(question_attention(**inputs, **sizes) - question_attention(**other, **sizes)).max() > 1e-3
    theta = inputs["theta"].copy()
    _named(theta, layers=1)["0.self.W_out"][...] = 0
    one, two = (question_attention(**{**case, "theta": theta}, **sizes) for case in (inputs, other))
    assert np.allclose(one, two, rtol=1e-12)
    by = question_attention_vjp(**{**inputs, "theta": theta}, cotangent=np.ones((3, 3, 3)), **sizes)
    assert abs(by.question).max() == 0


def test_equal_queries_stay_equal():
    inputs = _inputs(10)
    inputs["queries"][:] = inputs["queries"][:1]
    Z = question_attention(**inputs, **SIZES)
    assert np.allclose(Z, Z[:, :1], rtol=1e-12)
    by = question_attention_vjp(**inputs, cotangent=Z[:, :1] + 0 * Z, **SIZES)
    assert np.allclose(by.queries, by.queries[:1], rtol=1e-10, atol=1e-14)


def test_what_is_refused():
    inputs = _inputs(11)
    with pytest.raises(ValueError, match="heads must divide the 4 columns of queries"):
        question_attention(**inputs, **{**SIZES, "heads": 3})
    with pytest.raises(ValueError, match="theta must have"):
        question_attention(**{**inputs, "theta": inputs["theta"][1:]}, **SIZES)
    with pytest.raises(ValueError, match="mask must leave a patch of each image"):
        question_attention(**{**inputs, "mask": np.zeros((3, 5))}, **SIZES)
    with pytest.raises(ValueError, match="theta must be at most 1000"):
        question_attention(**{**inputs, "theta": 1e4 + inputs["theta"]}, **SIZES)
