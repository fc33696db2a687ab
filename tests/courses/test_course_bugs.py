"""The bugs that are written for the syllabi: one line is wrong, and with that line right they conform."""

import pathlib

import pytest

from trref.conformance import verify

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "courses" / "bugs"
NAMES = {  # file -> function, the wrong line, the right one
    "trust_region_steps_cauchy_point": (
        "trust_region_steps.cauchy_point",
        "tau = min(1, n**3 / (radius * (g @ B @ g)))",
        "tau = 1 if g @ B @ g <= 0 else min(1, n**3 / (radius * (g @ B @ g)))",
    ),
    "trpo_improvement_performance_difference": (
        "trpo_improvement.performance_difference",
        "visits = mdp(softmax(old_logits)).visits",
        "visits = mdp(new).visits",
    ),
    "sinkhorn_sinkhorn_log": (
        "sinkhorn.sinkhorn_log",
        "return np.log(np.exp(s).sum(axis))",
        "m = s.max(axis); return m + np.log(np.exp(s - np.expand_dims(m, axis)).sum(axis))",
    ),
    "score_matching_noise_matching": (
        "score_matching.noise_matching",
        "loss = (weight[:, None] * e * e).mean()\n    return loss, 2 * weight[:, None] * e / e.size",
        "loss = (weight * (e * e).sum(1)).mean()\n    return loss, 2 * weight[:, None] * e / len(e)",
    ),
    "score_models_ddim_step": (
        "score_models.ddim_step",
        "kept = np.sqrt(1 - next_alpha_bar)",
        "kept = np.sqrt(max(1 - next_alpha_bar - variance, 0))",
    ),
    "sam_share_gradient": (
        "sam.share_gradient",
        "weights.append(1 / len(starts))",
        "weights.append((min(start + share, n) - start) / n)",
    ),
    "cg": ("cg.cg", "beta = (r @ r) / rz_before", "beta = (r @ z) / rz_before"),
    "lanczos_lanczos_quadrature": (
        "lanczos.lanczos_quadrature",
        "return S[0] ** 2 @ f(theta)",
        "return (v @ v) * (S[0] ** 2 @ f(theta))",
    ),
    "cg_lanczos_tridiagonal_from_cg": (
        "cg_lanczos.tridiagonal_from_cg",
        "(beta[j] / alpha[j] if j else 0)",
        "(beta[j - 1] / alpha[j - 1] if j else 0)",
    ),
    "nonlinear_cg_direction_parameter": (
        "nonlinear_cg.direction_parameter",
        'return beta\n    if rule in ("HS"',
        'return max(beta, 0.0) if rule == "PR+" else beta\n    if rule in ("HS"',
    ),
}


def judged(name, source):
    scope = {"__name__": "handed_out"}
    exec(compile(source, "handed_out.py", "exec"), scope)
    verdict = verify(name, scope[name.partition(".")[2]], explain=False, sizes=(4, 8))
    cannot = [f for f in verdict.failures if f.trial.solved is not None and not f.trial.solved.converged]
    return len(verdict.failures) - len(cannot), verdict


def test_every_file_has_its_line():
    assert {p.stem for p in FOLDER.glob("*.py")} == NAMES.keys()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("stem", NAMES)
def test_it_deviates_and_with_the_right_line_it_conforms(stem):
    name, wrong, right = NAMES[stem]
    source = (FOLDER / f"{stem}.py").read_text(encoding="utf-8")
    assert source.count(wrong) == 1
    failing, verdict = judged(name, source)
    assert 0 < failing < verdict.cases
    failing, verdict = judged(name, source.replace(wrong, right))
    assert failing == 0, verdict
