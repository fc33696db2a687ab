"""Layers, heads, Adam and the surrogate against PyTorch's autograd, to 1e-10 in float64."""

import numpy as np
import pytest

from tests.peers.by_autograd import close
from trref.nn import activations, attention, conv, heads, losses, mlp, norm, recurrent
from trref.optimizers import adam
from trref.policy.ppo import clipped_surrogate
from trref.problems.networks import ClassifierLoss

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


def _t(x, grad=True):
    return torch.tensor(x, requires_grad=grad)


def _torch_mlp(theta, X, sizes, activation):
    phi = {"tanh": torch.tanh, "relu": F.relu, "softplus": F.softplus, "gelu": F.gelu, "silu": F.silu}[activation]
    h, start = X, 0
    for l in range(len(sizes) - 1):
        m, n = sizes[l : l + 2]
        W, b = theta[start : start + m * n].reshape(m, n), theta[start + m * n : start + m * n + n]
        h, start = h @ W + b, start + m * n + n
        h = phi(h) if l < len(sizes) - 2 else h
    return h


@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_network_gradient_hessian_and_gauss_newton(activation):
    rng, sizes = np.random.default_rng(0), (5, 7, 6, 4)
    loss = ClassifierLoss(rng.standard_normal((9, 5)), rng.integers(0, 4, 9), sizes, activation)
    theta, v = mlp.init(rng, sizes), rng.standard_normal(mlp.size(sizes))
    X, y = torch.tensor(loss.X), torch.tensor(loss.labels)
    f = lambda t: F.cross_entropy(_torch_mlp(t, X, sizes, activation), y)  # noqa: E731
    point = _t(theta)
    value = f(point)
    (gradient,) = torch.autograd.grad(value, point, create_graph=True)
    ours = loss(theta)
    close(ours[0], value)
    close(ours[1], gradient)
    (Hv,) = torch.autograd.grad((gradient * torch.tensor(v)).sum(), point)
    close(loss.hessian_product(theta, v), Hv)
    network = lambda t: _torch_mlp(t, X, sizes, activation)  # noqa: E731
    out, Jv = torch.func.jvp(network, (torch.tensor(theta),), (torch.tensor(v),))
    close(mlp.jvp(mlp.forward(theta, loss.X, sizes, activation)[1], v), Jv)
    p = torch.softmax(out, 1)
    HJv = p * (Jv - (p * Jv).sum(1, keepdim=True)) / 9
    close(loss.gauss_newton_product(theta, v), torch.func.vjp(network, torch.tensor(theta))[1](HJv)[0])


def _compare(f, ours, vjp, arrays):
    tensors = [_t(a) for a in arrays]
    out = f(*tensors)
    close(ours, out)
    cotangent = np.random.default_rng(5).standard_normal(out.shape)
    theirs = torch.autograd.grad(out, tensors, torch.tensor(cotangent))
    for mine, other in zip(vjp(cotangent), theirs, strict=True):
        close(mine, other)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (3, 2)])
def test_convolution_and_pooling(stride, padding):
    rng, how = np.random.default_rng(1), {"stride": stride, "padding": padding}
    x, w, b = rng.standard_normal((2, 3, 8, 6)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(4)
    _compare(
        lambda x, w, b: F.conv2d(x, w, b, **how),
        conv.conv2d(x, w, b, **how),
        lambda c: conv.conv2d_vjp(x, w, c, **how),
        [x, w, b],
    )
    _compare(lambda x: F.max_pool2d(x, 2), conv.max_pool(x), lambda c: [conv.max_pool_vjp(x, c)], [x])
    _compare(lambda x: F.avg_pool2d(x, 2), conv.average_pool(x), lambda c: [conv.average_pool_vjp(x, c)], [x])


def test_layer_norm():
    rng = np.random.default_rng(2)
    x, gain, bias = rng.standard_normal((3, 4, 6)), rng.standard_normal(6), rng.standard_normal(6)
    _compare(
        lambda x, g, b: F.layer_norm(x, (6,), g, b),
        norm.layer_norm(x, gain, bias),
        lambda c: norm.layer_norm_vjp(x, gain, c),
        [x, gain, bias],
    )


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((2, 5, 4)) for _ in range(3))
    _compare(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal),
        attention.attention(q, k, v, causal=causal),
        lambda c: attention.attention_vjp(q, k, v, c, causal=causal),
        [q, k, v],
    )


def test_recurrent_layer():
    rng = np.random.default_rng(4)
    x, h0, W_in, W_rec, b = (rng.standard_normal(s) for s in [(2, 6, 3), (2, 4), (3, 4), (4, 4), (4,)])
    cell = torch.nn.RNN(3, 4, batch_first=True, dtype=torch.float64)

    def f(x, h0, W_in, W_rec, b):
        weights = {"weight_ih_l0": W_in.T, "weight_hh_l0": W_rec.T, "bias_ih_l0": b, "bias_hh_l0": torch.zeros_like(b)}
        return torch.func.functional_call(cell, weights, (x, h0[None]))[0]

    states = recurrent.recurrent(x, h0, W_in, W_rec, b)
    _compare(f, states, lambda c: recurrent.recurrent_vjp(x, h0, W_in, W_rec, states, c), [x, h0, W_in, W_rec, b])


def test_heads():
    from torch.distributions import Categorical, Independent, Normal, kl_divergence

    rng = np.random.default_rng(6)
    z, q, actions = rng.standard_normal((5, 4)), rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    close(heads.categorical_log_prob(z, actions)[0], Categorical(logits=_t(z)).log_prob(torch.tensor(actions)))
    close(heads.categorical_entropy(z)[0], Categorical(logits=_t(z)).entropy())
    close(heads.categorical_kl(z, q)[0], kl_divergence(Categorical(logits=_t(z)), Categorical(logits=_t(q))))
    mean, log_std, other_mean, other_log_std, a = (rng.standard_normal((5, 3)) for _ in range(5))
    normal = lambda m, s: Independent(Normal(_t(m), _t(s).exp()), 1)  # noqa: E731
    ours, theirs = normal(mean, log_std), normal(other_mean, other_log_std)
    close(heads.gaussian_log_prob(mean, log_std, a)[0], ours.log_prob(torch.tensor(a)))
    close(heads.gaussian_entropy(log_std)[0], ours.entropy())
    close(heads.gaussian_kl(mean, log_std, other_mean, other_log_std)[0], kl_divergence(ours, theirs))


def test_losses():
    rng = np.random.default_rng(7)
    z, y = 5 * rng.standard_normal((6, 3)), rng.integers(0, 3, 6)
    _compare(
        lambda z: F.cross_entropy(z, torch.tensor(y)).reshape(1),
        losses.softmax_cross_entropy(z, y)[0],
        lambda c: [losses.softmax_cross_entropy(z, y)[1] * c],
        [z],
    )


@pytest.mark.parametrize("hyper", [{}, {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}])
def test_adam_step_by_step(hyper):
    rng = np.random.default_rng(8)
    shapes, gradients = [(3, 2), (4,)], []
    params = [rng.standard_normal(s) for s in shapes]
    theirs = [_t(p) for p in params]
    setting = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8} | hyper
    optimizer = torch.optim.Adam(
        theirs, lr=setting["lr"], betas=(setting["beta1"], setting["beta2"]), eps=setting["eps"]
    )
    state = adam.init(params)
    for _ in range(60):
        gradients = [rng.standard_normal(s) for s in shapes]
        params, state = adam.update(params, gradients, state, **hyper)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        for ours, p in zip(params, theirs, strict=True):
            close(ours, p)


def test_clipped_surrogate():
    rng = np.random.default_rng(9)
    old = -rng.exponential(1.5, 100)
    log_prob, advantage = old + 0.5 * rng.standard_normal(100), rng.standard_normal(100)
    x, A = _t(log_prob), torch.tensor(advantage)
    ratio = torch.exp(x - torch.tensor(old))
    loss = -torch.min(ratio * A, torch.clamp(ratio, 0.8, 1.2) * A).mean()
    loss.backward()
    ours = clipped_surrogate(log_prob, old, advantage)
    close(ours[0], loss)
    close(ours[1], x.grad)
