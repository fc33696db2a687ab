"""The first `trref verify`, and the command line around it."""

import pathlib
import sys

import numpy as np
import pytest

from trref import catalog, cli
from trref.conformance import LoadError, Options, verify
from trref.krylov.cg import cg
from trref.optimization.more_sorensen import more_sorensen

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAME = "ppo.clipped_surrogate"


def _right(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage).mean()


def _without_gradient(log_prob, old_log_prob, advantage, clip=0.2):
    return _right(log_prob, old_log_prob, advantage, clip), np.zeros_like(log_prob)


def test_a_right_value():
    verdict = verify(NAME, _right)
    assert verdict.conforms and verdict.settings == ("default", "atari", "probe")
    assert verdict.compared == "value, gradient by differences"


COMPARED = [
    record.name
    for record in catalog.records()
    if not (isinstance(record, catalog.Sampler) or getattr(record, "random", False))
]


@pytest.mark.parametrize("name", COMPARED)
def test_the_reference_conforms_to_itself(name):
    """On one draw of each size; tools/check.py takes all."""
    verdict = verify(name, catalog.find(name).f, explain=False, errors=True, seeds=(0,))
    assert verdict.conforms, str(verdict)


def test_errors_are_asked_for_where_they_are_wanted():
    """A dogleg that takes any matrix conforms, until it is asked."""

    def dogleg(g, B, radius):
        with np.errstate(all="ignore"):
            newton, steepest = -np.linalg.solve(B, g), -(g @ g) / (g @ B @ g) * g
            if newton @ newton <= radius**2:
                return newton
            if steepest @ steepest >= radius**2:
                return -radius * g / np.sqrt(g @ g)
            leg = newton - steepest
            a, b, c = leg @ leg, steepest @ leg, steepest @ steepest - radius**2
            return steepest + (-b + np.sqrt(b * b - a * c)) / a * leg

    assume = ["nonempty"]  # a zero gradient
    silent = verify("trust_region_steps.dogleg", dogleg, assume=assume)
    assert not silent.refusals
    asked = verify("trust_region_steps.dogleg", dogleg, assume=assume, errors=True)
    accepted = [refusal.what for refusal in asked.accepted]
    assert asked.status == "deviates" and "an indefinite matrix" in accepted and "g: an entry nan" in accepted
    assert f"refuses {len(asked.refusals) - len(accepted)} of {len(asked.refusals)}" in str(asked)
    assert asked.as_dict()["refusals"][-1] == {"what": "a negative definite matrix", "error": None, "lost": False}

    def careful(g, B, radius):
        if g.ndim != 1 or B.shape != (len(g), len(g)) or not np.isfinite([*g, *B.flat]).all():
            raise ValueError("g and B must be finite and fit")
        np.linalg.cholesky(B)
        return dogleg(g, B, radius)

    assert not verify("trust_region_steps.dogleg", careful, assume=assume, errors=True).accepted


def test_constants_that_are_fixed_are_not_asked_out_of_range():
    fixed = verify(NAME, _right, Options(constants={"clip": 0.2}), errors=True)
    assert not any(refusal.what.startswith("clip") for refusal in fixed.refusals)
    without = verify(
        NAME, lambda log_prob, old_log_prob, advantage: _right(log_prob, old_log_prob, advantage), errors=True
    )
    assert without.refusals and not any(refusal.what.startswith("clip") for refusal in without.refusals)


def test_the_command_asks_for_errors(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def loss(log_prob, old_log_prob, advantage, clip=0.2):\n"
        "    r = np.exp(log_prob - old_log_prob)\n"
        "    return -np.minimum(r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage).mean()\n"
    )
    assert cli.main(["verify", NAME, f"{tmp_path / 'mine.py'}:loss"]) == 0
    assert cli.main(["verify", NAME, f"{tmp_path / 'mine.py'}:loss", "--errors"]) == 1
    assert "accepted: log_prob: an entry nan" in capsys.readouterr().out


DEVIATIONS = [
    (record.name, deviation.name)
    for record in catalog.records()
    for deviation in record.deviations
    if isinstance(record, catalog.Objective | catalog.Transform | catalog.Estimator)
]


@pytest.mark.parametrize(("name", "deviation"), DEVIATIONS)
def test_every_deviation_deviates_and_is_named(name, deviation):
    known = next(d for d in catalog.find(name).deviations if d.name == deviation)
    verdict = verify(name, known.f)
    assert not verdict.conforms
    assert any(deviation in str(e) for e in verdict.explanations), str(verdict)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda log_prob, old_log_prob, advantage, clip=0.2: -_right(log_prob, old_log_prob, advantage, clip),
        lambda log_prob, old_log_prob, advantage, clip=0.2: 2 * _right(log_prob, old_log_prob, advantage, clip),
        lambda log_prob, old_log_prob, advantage, clip=0.2: _right(old_log_prob, log_prob, advantage, clip),
        lambda log_prob, old_log_prob, advantage, clip=0.2: _right(log_prob, old_log_prob, advantage, 0.2),
        lambda log_prob, old_log_prob, advantage, clip=0.2: np.float32(_right(log_prob, old_log_prob, advantage, clip)),
        _without_gradient,
    ],
    ids=["sign", "factor", "swapped", "setting ignored", "float32 inside", "gradient missing"],
)
def test_wrong_implementations(wrong):
    verdict = verify(NAME, wrong)
    assert not verdict.conforms and "expected" in str(verdict)


def test_renamed_maximised_and_constant():
    def theirs(new, old, adv, eps):
        return -_right(new, old, adv, eps)

    names = {"log_prob": "new", "old_log_prob": "old", "advantage": "adv", "clip": "eps"}
    assert verify(NAME, theirs, Options(names=names, maximise=True)).conforms
    assert not verify(NAME, theirs, Options(names=names)).conforms
    with pytest.raises(LoadError, match="nothing takes log_prob, old_log_prob, advantage"):
        verify(NAME, theirs)
    fixed = verify(NAME, _right, Options(constants={"clip": 0.1}))
    assert fixed.conforms and fixed.settings == ("default",)


def test_one_value_for_two_arguments(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n\n"
        "def loss(log_prob, old_log_prob, advantage, low, high):\n"
        "    r = np.exp(log_prob - old_log_prob)\n"
        "    return -np.minimum(r * advantage, np.clip(r, 1 - low, 1 + high) * advantage).mean()\n"
    )
    assert _run(capsys, "verify", NAME, f"{path}:loss", "--map", "clip=low,high")[0] == 0
    status, _, err = _run(capsys, "verify", NAME, f"{path}:loss", "--map", "clip=low")
    assert status == 2 and "nothing fills high" in err


def test_a_setting_that_cannot_be_passed_is_named():
    verdict = verify(NAME, lambda log_prob, old_log_prob, advantage: _right(log_prob, old_log_prob, advantage))
    assert verdict.conforms and verdict.skipped == ("atari", "probe")


def test_the_smallest_failing_input():
    """Smallest in every length, of short numbers, and as many digits as the difference needs."""

    def forgets_the_second_token(log_prob, old_log_prob, advantage, mask, clip=0.2):
        mask = mask.copy()
        mask[:, 1:2] = 0
        return catalog.find("grpo.grpo").f(log_prob, old_log_prob, advantage, mask, clip=clip)

    smallest = verify("grpo.grpo", forgets_the_second_token, explain=True).smallest
    assert smallest.trial.inputs["mask"].shape == (1, 2) and smallest.trial.inputs["advantage"].shape in ((1,), (1, 2))
    assert all(np.array_equal(np.round(a, 1), a) for a in smallest.trial.inputs.values())

    def nearly(log_prob, old_log_prob, advantage, clip=0.2):
        return _right(log_prob, old_log_prob, advantage, clip) * (1 + 3e-8)

    lines = str(verify(NAME, nearly)).splitlines()
    expected, found = (next(x for x in lines if x.strip().startswith(w)).split()[-1] for w in ("expected", "found "))
    assert expected != found, lines


def test_exceptions_are_shown_beside_differences():
    def wrong(log_prob, old_log_prob, advantage, clip=0.2):
        if len(log_prob) == 1:
            raise ValueError("needs two")
        return 1.1 * _right(log_prob, old_log_prob, advantage, clip) + 0.1

    assert "raised ValueError: needs two" in str(verify(NAME, wrong))


def test_code_that_raises():
    def broken(log_prob, old_log_prob, advantage, clip=0.2):
        raise KeyError("oops")

    assert "raised KeyError: 'oops'" in str(verify(NAME, broken))


# ---- solvers and update rules


def _cg_that_reports(**changes):
    def solver(matvec, b, *, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
        result = cg(matvec, b, x0=x0, preconditioner=preconditioner, rtol=rtol, max_iter=max_iter)
        return result._replace(**{name: change(getattr(result, name)) for name, change in changes.items()})

    return solver


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("x", lambda x: x * (1 + 1e-6)),
        ("residual_norms", lambda norms: norms[1:]),
        ("residual_norms", lambda norms: [2 * r for r in norms]),
        ("iterations", lambda k: k + 1),
        ("converged", lambda done: True),
        ("converged", lambda done: False),
    ],
)
def test_what_a_solver_reports_beside_the_solution(field, change):
    assert not verify("cg.cg", _cg_that_reports(**{field: change}), explain=False).conforms


def test_a_solver_that_reports_nothing():
    verdict = verify("cg.cg", lambda **given: cg(**given).x)
    assert verdict.conforms and verdict.compared == "solution"
    assert verify("cg.cg", _cg_that_reports()).compared == "solution, residual_norms, converged, iterations"


def test_a_wrong_multiplier():
    """The step is right; the certificate sees that the multiplier does not belong to it."""

    def wrong(g, B, **hyper):
        result = more_sorensen(g, B, **hyper)
        return result._replace(multiplier=2 * result.multiplier)

    assert not verify("more_sorensen.more_sorensen", wrong, explain=False).conforms


def test_update_rules_and_their_first_state(tmp_path, capsys):
    assert _run(capsys, "verify", "adam.update", "trref.optimizers.adam:update")[0] == 0
    text = """
import numpy as np

def {init}:
    return 0, [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]

def update(params, grads, state, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    t, m, v = state
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(m, grads)]
    v = [beta2 * a + (1 - beta2) * g**2 for a, g in zip(v, grads)]
    rates = (1 - beta1 ** (t + 1), 1 - beta2 ** (t + 1))
    return [p - lr * a / rates[0] / (np.sqrt(b / rates[1]) + eps) for p, a, b in zip(params, m, v)], (t + 1, m, v)
"""
    path = tmp_path / "mine.py"
    path.write_text(text.format(init="init(params)"))
    assert _run(capsys, "verify", "adam.update", f"{path}:update")[0] == 0
    path.write_text(text.format(init="init(params, seed)"))  # not the first state of an update rule
    status, out, _ = _run(capsys, "verify", "adam.update", f"{path}:update")
    assert status == 2 and "cannot unpack non-iterable NoneType" in out


# ---- other devices


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (NAME, "trref.policy.ppo:clipped_surrogate"),
        ("adam.update", "trref.optimizers.adam:update"),
        ("cg.cg", "trref.krylov.cg:cg"),
        ("stiefel.project", "trref.manifolds.stiefel:project"),
        ("gae.gae", "trref.policy.gae:gae"),
    ],
)
def test_on_another_backend(capsys, name, target):
    assert _run(capsys, "verify", name, target, "--backend", "strict")[0] == 0


def test_host_code_fails_on_another_backend():
    assert not verify(NAME, lambda **given: np.asarray(_right(**given)), Options(backend="strict")).conforms


def test_backends_that_are_not_there(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("trref.backend._loaded", {})
    with pytest.raises(LoadError, match="needs the package cupy"):
        verify(NAME, _right, Options(backend="cupy"))
    status, _, err = _run(capsys, "check", "ppo", "--backend", "cupy")
    assert status == 2 and "needs the package cupy" in err


def test_other_record_types_are_refused():
    with pytest.raises(ValueError, match="draws for itself"):
        verify("score_models.ddim_sample", _right)


def test_torch_by_autograd():
    torch = pytest.importorskip("torch")

    def right(log_prob, old_log_prob, advantage, clip=0.2):
        r = torch.exp(log_prob - old_log_prob)
        return -torch.min(r * advantage, r.clamp(1 - clip, 1 + clip) * advantage).mean()

    def stopped(log_prob, old_log_prob, advantage, clip=0.2):
        r = torch.exp(log_prob - old_log_prob)
        value = -torch.min(r * advantage, r.clamp(1 - clip, 1 + clip) * advantage)
        return (value + 0 * log_prob).detach().mean() + 0 * log_prob.sum()

    verdict = verify(NAME, right, Options(framework="torch"))
    assert verdict.conforms and verdict.compared == "value, gradient by autograd"
    assert not verify(NAME, stopped, Options(framework="torch")).conforms


# ---- command line


def _run(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command_verify(capsys):
    examples = ROOT / "examples"
    assert _run(capsys, "verify", NAME, f"{examples / 'clipped_surrogate.py'}:loss")[0] == 0
    status, out, _ = _run(capsys, "verify", NAME, f"{examples / 'clipped_surrogate_with_a_bug.py'}:loss")
    assert status == 1 and out.startswith("DEVIATES")
    status, out, _ = _run(
        capsys, "verify", "ppo.unclipped_surrogate", f"{examples / 'clipped_surrogate.py'}:loss", "--set", "clip=1e14"
    )
    assert status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAME, "nothing.py:f"), "there is no file nothing.py"),
        ((NAME, "nothing"), "expected file.py:function"),
        ((NAME, "json:nothing"), "json has no function 'nothing'"),
        ((NAME, "no.such.module:f"), "importing no.such.module failed"),
        (("ppo.nothing", "json:dumps"), "no catalogued function"),
        ((NAME, "json:dumps", "--map", "x"), "--map expects NAME=VALUE"),
    ],
)
def test_command_verify_could_not_run(capsys, arguments, message):
    status, _, err = _run(capsys, "verify", *arguments)
    assert status == 2 and message in err


def test_command_list(capsys):
    status, out, _ = _run(capsys, "list")
    assert status == 0 and all(record.name in out for record in catalog.records())
    assert "krylov" not in _run(capsys, "list", "policy")[1]


def test_command_check(capsys):
    status, out, _ = _run(capsys, "check", "ppo.clipped")
    assert status == 0 and "1 methods, 0 of them with failures" in out
    assert _run(capsys, "check", "nothing")[0] == 2
    status, out, _ = _run(capsys, "check", "ppo", "--backend", "strict")
    assert status == 0 and "ppo " in out


def test_plain_tuples_for_named_results():
    record = catalog.find("bandpo.band")
    verdict = verify(record.name, lambda old_log_prob, **hyper: tuple(record.f(old_log_prob, **hyper)))
    assert verdict.conforms and verdict.compared == "result.lower, result.upper"
    verdict = verify(record.name, lambda old_log_prob, **hyper: tuple(record.f(old_log_prob, **hyper))[::-1])
    assert not verdict.conforms
