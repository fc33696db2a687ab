"""Submissions are judged by stages; what is wrong is named; what is hostile costs its author alone."""

import pathlib
import time

import pytest

from trref.courses import children, submissions
from trref.courses.exercise import Exercise
from trref.courses.judge import Limits, judge

QUICK = Limits(call=1.0, total=20.0, explain=3.0)

PPO = """
import numpy as np


def clipped_surrogate(log_prob, old_log_prob, advantage, *, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    u = r * advantage
    c = np.clip(r, 1 - clip, 1 + clip) * advantage
    n = len(r)
    return -np.minimum(u, c).sum() / n, -np.where(u <= c, u, 0) / n
"""
CG = """
import numpy as np


def cg(matvec, b, *, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    x = np.zeros_like(b) if x0 is None else x0.copy()
    M = preconditioner or (lambda r: r)
    r = b - matvec(x)
    z = M(r)
    p, norms = z.copy(), [float(np.linalg.norm(r))]
    target = rtol * float(np.linalg.norm(b))
    while norms[-1] > target and len(norms) <= (max_iter or 10 * len(b)):
        Ap, rz = matvec(p), r @ z
        alpha = rz / (p @ Ap)
        x = x + alpha * p
        r = r - alpha * Ap
        z = M(r)
        p = z + (r @ z) / rz * p
        norms.append(float(np.linalg.norm(r)))
    return {"x": x, "residual_norms": norms, "iterations": len(norms) - 1, "converged": norms[-1] <= target}
"""
QR = """
import numpy as np


def retract_qr(x, z):
    q, r = np.linalg.qr(x + z)
    return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def retract_qr_jvp(x, z, *, tangent):
    q, r = np.linalg.qr(x + z)
    s = np.sign(np.diagonal(r, axis1=-2, axis2=-1))
    q, r = q * s[..., None, :], r * s[..., :, None]
    A = tangent @ np.linalg.inv(r)
    B = np.swapaxes(q, -1, -2) @ A
    L = np.tril(B, -1)
    return q @ (L - np.swapaxes(L, -1, -2)) + A - q @ B
"""
ADAM = """
import numpy as np


def init(params):
    return 0, [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]


def update(params, grads, state, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0,
           decoupled_weight_decay=True):
    t, m, v = state
    t, rate = t + 1, weight_decay if decoupled_weight_decay else 0.0
    if not decoupled_weight_decay:
        grads = [g + weight_decay * p for g, p in zip(grads, params)]
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(m, grads)]
    v = [beta2 * a + (1 - beta2) * g * g for a, g in zip(v, grads)]
    hats = [(a / (1 - beta1**t), b / (1 - beta2**t)) for a, b in zip(m, v)]
    new = [p - lr * (a / (np.sqrt(b) + eps) + rate * p) for p, (a, b) in zip(params, hats)]
    return new, (t, m, v)
"""
VERIFIER = """
import numpy as np


def noisy_verifier(rng, reward, rho0, rho1):
    u = rng.random(len(reward))
    return np.where(reward == 1, u >= rho1, u < rho0).astype(float)
"""


def of(name, source, level=2, framework="numpy", limits=QUICK):
    return judge(Exercise(name, level, framework), source, limits=limits)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ppo.clipped_surrogate", PPO),
        ("cg.cg", CG),
        ("stiefel.retract_qr", QR),
        ("adam.update", ADAM),
        ("noisy_rlvr_verifier.noisy_verifier", VERIFIER),
    ],
)
def test_right_solutions_pass(name, source):
    result = of(name, source)
    assert result.status == "passed" and result.score == result.of > 0, result


def test_the_result_may_be_named():
    named = PPO.replace("return -np", "return {'loss': 1} and -np").replace(
        "-np.where(u <= c, u, 0) / n", "{'log_prob': -np.where(u <= c, u, 0) / n}"
    )
    assert of("ppo.clipped_surrogate", named).status == "passed"


def test_a_value_alone_is_refused_at_level_2_and_enough_at_level_1():
    alone = PPO.replace(", -np.where(u <= c, u, 0) / n", "")
    result = of("ppo.clipped_surrogate", alone)
    assert result.status == "failed" and result.stages["value"]["failed"] == 0
    assert result.stages["gradient"]["score"] == 0 and "no gradient" in result.first
    assert of("ppo.clipped_surrogate", alone, level=1).status == "passed"


def test_level_3_asks_for_refusals_that_name_the_argument():
    result = of("ppo.clipped_surrogate", PPO, level=3)
    assert [s for s, f in result.stages.items() if f["failed"]] == ["errors"]
    checks = """    for name, a in dict(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage).items():
        if np.shape(a) != np.shape(log_prob) or np.ndim(a) != 1 or np.shape(a) != np.shape(advantage):
            raise ValueError(f"{name}: log_prob, old_log_prob and advantage must have one shape (N,)")
        if not np.isfinite(a).all():
            raise ValueError(f"{name} must be finite")
    if not clip > 0:
        raise ValueError("clip must be positive")
    r ="""
    result = of("ppo.clipped_surrogate", PPO.replace("    r =", checks, 1), level=3)
    assert result.status == "passed", result.stages["errors"]


SLIPS = {
    "max for min": (PPO.replace("np.minimum", "np.maximum"), "the maximum is taken where the minimum belongs"),
    "no gradient outside, on both sides": (
        PPO.replace("np.where(u <= c, u, 0)", "np.where(abs(r - 1) <= clip, u, 0)"),
        "zero on both sides",
    ),
    "no ratio in the gradient": (PPO.replace("u <= c, u,", "u <= c, advantage,"), "lacks the ratio"),
    "the gradient's sign": (PPO.replace("-np.where", "np.where"), "wrong sign"),
    "a known deviation": (
        PPO.replace("np.minimum(u, c)", "c").replace("u <= c", "abs(r - 1) <= clip"),
        "without the minimum",
    ),
    "a constant factor": (PPO.replace(".sum() / n, ", ".sum(), ").replace(" 0) / n", " 0)"), "a factor of N"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_have_names(slip):
    source, words = SLIPS[slip]
    result = of("ppo.clipped_surrogate", source)
    assert result.status == "failed" and words in result.hints[2], result.hints


def test_the_terms_of_the_smallest_case_are_found_in_the_submission():
    source, _ = SLIPS["no gradient outside, on both sides"]
    worked = of("ppo.clipped_surrogate", source).worked
    places = {name: place for name, _, _, place in worked["terms"]}
    assert (places["ratio"], places["unclipped"], places["clipped"]) == ("r", "u", "c")
    assert places["J"] == "-the value returned" and places["dJ"] == ""
    assert len(worked["inputs"]["log_prob"]) < 12  # a single entry


def test_where_the_failures_lie():
    wrong = CG.replace("(r @ z) / rz * p", "(r @ r) / rz * p")
    result = of("cg.cg", wrong)
    assert "from iterate 2 on" in result.stages["gradient"]["where"]
    assert "preconditioner" in result.stages["gradient"]["where"] + result.where or "x0" in result.where
    plain = "import numpy as np\n\n\ndef cg(matvec, b):\n    A = np.array([matvec(e) for e in np.eye(len(b))])\n"
    result = of("cg.cg", plain + "    return np.linalg.solve(A, b)\n")
    assert "takes no x0, preconditioner" in result.where + " ".join(result.notes)


def test_sinkhorn_without_a_shift_fails_a_hard_case_and_nothing_else():
    source = """
import numpy as np


def log_sum_exp(x, axis):
    return np.log(np.exp(x).sum(axis))


def sinkhorn_log(cost, a, b, *, reg=0.1, rtol=1e-8, max_iter=10000):
    a, b = a / a.sum(), b / b.sum()
    f, g, errors = np.zeros_like(a), np.zeros_like(b), []
    while True:
        f = reg * (np.log(a) - log_sum_exp((g - cost) / reg, 1))
        g = reg * (np.log(b) - log_sum_exp((f[:, None] - cost) / reg, 0))
        P = np.exp((f[:, None] + g - cost) / reg)
        errors.append(float(abs(P.sum(1) - a).sum()))
        if not errors[-1] > rtol or len(errors) >= max_iter:
            break
    return {"plan": P, "f": f, "g": g, "errors": errors, "iterations": len(errors), "converged": errors[-1] <= rtol}
"""
    result = of("sinkhorn.sinkhorn_log", source, level=3, limits=Limits(call=5.0, explain=0.0))
    assert result.stages["hard"]["groups"]["a large common cost"][0] == 0


def test_torch_by_autograd_and_by_hand():
    pytest.importorskip("torch")
    source = PPO.replace("import numpy as np", "import torch").replace("np.exp", "torch.exp")
    source = source.replace("np.clip(r, ", "torch.clip(r, ").replace("np.minimum", "torch.minimum")
    value = source.replace(", -np.where(u <= c, u, 0) / n", "")
    assert of("ppo.clipped_surrogate", value, level=1, framework="torch").status == "passed"
    assert "no gradient" in of("ppo.clipped_surrogate", value, framework="torch").first
    both = source.replace("np.where(u <= c, u, 0)", "torch.where(u <= c, u, torch.zeros_like(u))")
    assert of("ppo.clipped_surrogate", both, framework="torch").status == "passed"
    detached = value.replace("torch.exp(", "torch.exp(log_prob - log_prob.detach()) * torch.exp(").replace(
        "(log_prob - old_log_prob)", "(log_prob.detach() - old_log_prob)"
    )
    assert of("ppo.clipped_surrogate", detached, level=1, framework="torch").status == "passed"
    lost = value.replace("log_prob - old_log_prob", "log_prob.detach() - old_log_prob")
    result = of("ppo.clipped_surrogate", lost, level=1, framework="torch")
    assert result.stages["value"]["failed"] == 0 and result.stages["gradient"]["failed"] > 0


# ------------------------------------------------------------------------------------------------------------ hostile

START = "    r = np.exp"


def spoiled(line):
    return PPO.replace(START, f"    {line}\n{START}", 1)


NOT_ALLOWED = {
    "imports": "from trref.policy.ppo import clipped_surrogate\n",
    "imports the package": PPO.replace("import numpy", "import trref, numpy", 1).replace("trref, numpy as", "numpy as"),
    "imports inside": spoiled("from trref.policy import ppo"),
    "imports by name": spoiled("import importlib; importlib.import_module('tr' + 'ref.policy.ppo')"),
    "imports with a built-in": spoiled("__import__('trref.policy.ppo')"),
    "imports in disguise": spoiled("exec('im' + 'port tr' + 'ref.policy.ppo')"),
    "looks into sys.modules": spoiled("import sys; sys.modules['tr' + 'ref']"),
    "reads the source": spoiled(f"open({str(pathlib.Path(children.__file__).parents[1] / 'policy' / 'ppo.py')!r})"),
    "climbs frames": spoiled("import sys; sys._getframe(1).f_globals"),
    "searches objects": spoiled("import gc; gc.get_objects()"),
    "forks": spoiled("import os; os.fork()"),
    "starts processes": spoiled("import subprocess; subprocess.Popen(['sleep', '100'])"),
    "kills its parent": spoiled("import os; os.kill(os.getppid(), 9)"),
    "uses the network": spoiled("import socket; socket.create_connection(('127.0.0.1', 9))"),
    "reads memory": spoiled("open('/pr' + 'oc/self/mem')"),
}


@pytest.mark.parametrize("how", NOT_ALLOWED)
def test_what_is_not_allowed_is_found_and_reported(how):
    source = NOT_ALLOWED[how]
    if how == "imports the package":
        source = "import trref\n" + PPO
    result = of("ppo.clipped_surrogate", source)
    assert result.status == "not allowed" and result.score == 0 and result.violations, result


def test_the_harness_cannot_be_patched_unseen():
    """By whatever way the submission got hold of it."""
    source = spoiled("f = [c for c in type(np).__mro__[-1].__subclasses__() if c.__name__ == 'Implementation'][0]")
    assert of("ppo.clipped_surrogate", source).status == "not allowed"
    hidden = "    sub = getattr(type(np).__mro__[-1], '__sub' + 'classes__')()\n"
    hidden += "    [setattr(c, '_picked', lambda *a: 0) for c in sub if c.__name__ == 'Implementation']\n"
    result = of("ppo.clipped_surrogate", PPO.replace(START, hidden + START, 1))
    assert result.status == "not allowed" and "harness" in result.violations[0]


COSTLY = {
    "loops": spoiled("while True: pass"),
    "exits": spoiled("import os; os._exit(0)"),
    "raises SystemExit": spoiled("raise SystemExit"),
    "crashes": spoiled(
        "np.frombuffer(np.lib.stride_tricks.as_strided(r0 := np.zeros(1), (1 << 40,)), dtype=float).sum()"
    ),
    "takes all memory": spoiled("np.ones(10**10)"),
    "floods": spoiled("while True: print('x' * 10**6)"),
    "returns a flood": PPO.replace("return -np.minimum(u, c).sum() / n,", "return np.zeros(10**8),"),
    "returns objects": PPO.replace("return -np.minimum(u, c).sum() / n,", "return np.array([object()]),"),
    "looks like an answer": spoiled("import sys; sys.stdout.write('passed'); return 0.0, 0.0"),
    "cannot be read": "def clipped_surrogate(:\n",
    "another function": "def other():\n    return 0\n",
    "other arguments": "def clipped_surrogate(a, b):\n    return 0\n",
    "loops when imported": "while True:\n    pass\n",
}


@pytest.mark.parametrize("how", COSTLY)
def test_what_is_hostile_costs_its_author_alone(how):
    begin = time.monotonic()
    result = of("ppo.clipped_surrogate", COSTLY[how], limits=Limits(call=0.5, total=3.0, explain=0.0))
    assert result.score == 0 and result.status in ("failed", "could not run")
    assert time.monotonic() - begin < 60
    assert of("ppo.clipped_surrogate", PPO).status == "passed"


def test_files_of_a_submission_that_have_no_place_are_pointed_out():
    assert submissions.suspicions("import os\nopen('x')\n") == ["line 1 imports os", "line 2 calls open"]
    assert submissions.suspicions("import numpy as np\n") == submissions.violations(PPO) == []


def test_not_started_is_seen_in_any_form():
    body = 'def f(x):\n    """Text."""\n    ### BEGIN SOLUTION\n    raise NotImplementedError\n'
    assert submissions.not_started(body, "f") and submissions.not_started(body + "()", "f")
    assert not submissions.not_started(body.replace("raise NotImplementedError", "return 1"), "f")
    later = PPO.replace(START, "    if len(log_prob):\n        raise NotImplementedError\n" + START, 1)
    assert of("ppo.clipped_surrogate", later).status == "not started"
