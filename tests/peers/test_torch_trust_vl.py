"""Attention of several heads against PyTorch's module, and the whole of a question's way by autograd."""

import numpy as np
import pytest

from trref.nn import flat
from trref.nn.multihead import MultiHeadWeights, multi_head, multi_head_vjp
from trref.trustworthiness import question_attention as qa

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")
F = torch.nn.functional


def _tensor(x, grad=False):
    return torch.tensor(x, dtype=torch.float64, requires_grad=grad)


def _module(w, heads, D, E):
    module = torch.nn.MultiheadAttention(D, heads, kdim=E, vdim=E, batch_first=True).double()
    with torch.no_grad():
        for name, value in (("q", w.W_query), ("k", w.W_key), ("v", w.W_value)):
            getattr(module, f"{name}_proj_weight").copy_(_tensor(value.T.copy()))
        module.in_proj_bias.copy_(_tensor(np.concatenate([w.b_query, w.b_key, w.b_value])))
        module.out_proj.weight.copy_(_tensor(w.W_out.T.copy()))
        module.out_proj.bias.copy_(_tensor(w.b_out))
    return module


@pytest.mark.parametrize("seed", range(5))
def test_heads(seed):
    rng = np.random.default_rng(seed)
    heads, D, E = int(rng.integers(1, 4)), 12, 5
    x, y = rng.standard_normal((3, 4, D)), rng.standard_normal((3, 6, E))
    shapes = [(D, D), (D,), (E, D), (D,), (E, D), (D,), (D, D), (D,)]
    w = MultiHeadWeights(*(rng.standard_normal(shape) / 3 for shape in shapes))
    mask = (rng.random((3, 6)) < 0.6).astype(float)
    mask[:, 0] = 1
    module, a, b = _module(w, heads, D, E), _tensor(x, True), _tensor(y, True)
    padding = torch.tensor(mask == 0)
    out, weights = module(a, b, b, key_padding_mask=padding, average_attn_weights=False)
    C = rng.standard_normal(out.shape)
    (out * _tensor(C)).sum().backward()
    ours, A = multi_head(x, y, w, heads=heads, mask=mask)
    by = multi_head_vjp(x, y, w, C, heads=heads, mask=mask)
    assert np.allclose(ours, out.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert np.allclose(A, weights.detach().numpy(), rtol=1e-10, atol=1e-12)
    theirs = {
        "W_query": module.q_proj_weight.grad.T,
        "W_key": module.k_proj_weight.grad.T,
        "W_value": module.v_proj_weight.grad.T,
        "W_out": module.out_proj.weight.grad.T,
        "b_out": module.out_proj.bias.grad,
    }
    theirs |= dict(zip(("b_query", "b_key", "b_value"), module.in_proj_bias.grad.split(D), strict=True))
    assert np.allclose(by.x, a.grad.numpy(), rtol=1e-9, atol=1e-11)
    assert np.allclose(by.y, b.grad.numpy(), rtol=1e-9, atol=1e-11)
    for name, gradient in theirs.items():
        assert np.allclose(getattr(by.weights, name), gradient.numpy(), rtol=1e-9, atol=1e-11), name


def _theirs(queries, patches, w, question, mask, heads, layers):
    """The same network in PyTorch's functions."""

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.gain"], w[f"{name}.bias"], 1e-12)

    def read(x, y, name, keep=None):
        def split(z):
            return z.unflatten(-1, (heads, -1)).transpose(1, 2)

        q, k, v = (
            split(z @ w[f"{name}.W_{p}"] + w[f"{name}.b_{p}"]) for z, p in ((x, "query"), (y, "key"), (y, "value"))
        )
        allowed = None if keep is None else keep[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return norm(x + mixed.transpose(1, 2).flatten(2) @ w[f"{name}.W_out"] + w[f"{name}.b_out"], name)

    def feed(x, name):
        h = F.gelu(x @ w[f"{name}.W1"] + w[f"{name}.b1"])
        return norm(x + h @ w[f"{name}.W2"] + w[f"{name}.b2"], name)

    R = len(queries)
    S = queries.expand(len(patches), *queries.shape)
    S = S if question is None else torch.cat([S, question + w["position"]], 1)
    S, image = norm(S, "embedding"), norm(patches, "vision")
    for layer in range(layers):
        S = read(S, S, f"{layer}.self")
        rows, text = S[:, :R], S[:, R:]
        if layer % 2 == 0:
            rows = read(rows, image, f"{layer}.cross", None if mask is None else torch.tensor(mask > 0))
        S = torch.cat([feed(rows, f"{layer}.query"), feed(text, f"{layer}.text")], 1)
    return S[:, :R] @ w["W_lm"] + w["b_lm"]


@pytest.mark.parametrize("question", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_all_layers(question, layers):
    rng = np.random.default_rng(layers)
    N, R, D, L, P, V = 3, 4, 6, 2, 5, 3
    sizes = {"hidden": 7, "layers": layers, "width": 5}
    shapes = qa.layout(dim=D, vision=V, tokens=L if question else 0, **sizes)
    theta = 0.5 * rng.standard_normal(flat.size(list(shapes.values())))
    queries, patches, C = rng.standard_normal((R, D)), rng.standard_normal((N, P, V)), rng.standard_normal((N, R, 5))
    asked = rng.standard_normal((N, L, D)) if question else None
    mask = (rng.random((N, P)) < 0.6).astype(float)
    mask[:, 0] = 1
    t, q, p = _tensor(theta, True), _tensor(queries, True), _tensor(patches, True)
    a = _tensor(asked, True) if question else None
    w, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        w[name] = t[start : start + size].reshape(shape)
        start += size
    Z = _theirs(q, p, w, a, mask, 2, layers)
    (Z * _tensor(C)).sum().backward()
    given = (queries, patches, theta, asked, mask)
    assert np.allclose(qa.question_attention(*given, heads=2, **sizes), Z.detach().numpy(), rtol=1e-9, atol=1e-11)
    by = qa.question_attention_vjp(*given, cotangent=C, heads=2, **sizes)
    pairs = [(by.queries, q), (by.patches, p), (by.theta, t)] + [(by.question, a)] * question
    for ours, tensor in pairs:
        assert np.allclose(ours, tensor.grad.numpy(), rtol=1e-7, atol=1e-9)
