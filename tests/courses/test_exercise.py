"""Exercises are made for every catalogued function, from the records alone."""

import importlib
import inspect
import pathlib
import sys
import types

import numpy as np
import pytest

from trref import catalog, checks, cli
from trref.courses import handout, starter, worked
from trref.courses.exercise import Exercise, derivative_of, questions, stages
from trref.courses.judge import judge, judge_function
from trref.courses.plain import page, plain

RECORDS = [record.name for record in catalog.records()]
HALVES = [RECORDS[i::8] for i in range(8)]


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\frac{r_k^\top z_k}{p_k^\top A p_k}", "(rₖᵀ zₖ)/(pₖᵀ A pₖ)"),
        (r"\hat A_t \le \sqrt{\kappa + 1}", "A\u0302ₜ ≤ √(κ + 1)"),
        (r"x_{k+1} = x_k + \alpha_k p_k, \qquad y", "xₖ₊₁ = xₖ + αₖ pₖ, y"),
        (r"\mathbb 1\big[ r > 0 \big]", "1[ r > 0 ]"),
        (r"\log \pi_{old}(a|s)", "log π_old(a|s)"),
        (r"\text{the mean } \bar x \\ \|y\|^2", "the mean x\u0304\n‖y‖²"),
    ],
)
def test_equations_in_plain_symbols(tex, text):
    assert plain(tex).split() == text.split()


def test_no_page_leaves_tex_in_its_equations():
    for method in catalog.methods():
        text = page(method.module).text()
        assert "\\" not in text.replace("\\ ", ""), method.slug
        assert ":math:" not in text and "$$" in page(method.module).markdown() + "$$"


@pytest.mark.parametrize("names", HALVES, ids=range(8))
def test_the_exercise_of_every_function(names, tmp_path):
    """It is Python, it says what is asked, and as handed out it is not started."""
    for number, name in enumerate(names):
        exercise = Exercise(name, level=number % 3 + 1, framework=("numpy", "torch", "jax")[number % 2])
        file, visible = handout.write(exercise, tmp_path)
        source = file.read_text(encoding="utf-8")
        compile(source, file.name, "exec")
        compile(visible.read_text(encoding="utf-8"), visible.name, "exec")
        assert source.count(starter.BEGIN) == source.count(starter.END) >= 1
        assert starter.command(exercise) in source and len(questions(exercise.record)) == 2
        for argument in exercise.record.inputs:
            assert argument in source or isinstance(exercise.record, catalog.UpdateRule)
        assert judge(exercise, source).status == "not started", name


def _as_asked(f):
    """A reference's results as an exercise asks for them: named parts are dicts."""

    def answer(*arguments, **keywords):
        result = f(*arguments, **keywords)
        if isinstance(result, tuple) and not hasattr(result, "_asdict") and len(result) == 2:
            return tuple(r._asdict() if hasattr(r, "_asdict") else r for r in result)
        return result._asdict() if hasattr(result, "_asdict") else result

    return answer


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
@pytest.mark.parametrize("names", HALVES, ids=range(8))
def test_the_visible_test_is_passed_by_the_reference(names, monkeypatch):
    """And it is not passed by an empty body."""
    for name in names:
        exercise = Exercise(name, level=2)
        record, module = exercise.record, types.ModuleType(exercise.stem)
        setattr(module, exercise.function, _as_asked(record.f))
        if isinstance(record, catalog.UpdateRule):
            module.init, module.update = record.init, record.f
            setattr(module, exercise.function, record.f)
        if isinstance(record, catalog.Transform) and derivative_of(record):
            setattr(module, derivative_of(record).name, _derivative(record))
        monkeypatch.setitem(sys.modules, exercise.stem, module)
        code = compile(worked.test_code(exercise), f"test_{exercise.stem}.py", "exec")
        exec(code, {"__name__": "__main__"})
        empty = {"__name__": exercise.stem}
        exec(starter.code(exercise), empty)
        vars(module).update(empty)
        with pytest.raises((NotImplementedError, AssertionError)):
            exec(code, {"__name__": "__main__"})


def _derivative(record):
    f = derivative_of(record).f
    named = inspect.signature(f).parameters

    def derivative(**arguments):
        takes_all = any(p.kind is p.VAR_KEYWORD for p in named.values())
        return f(**{k: v for k, v in arguments.items() if k in named or takes_all})

    return derivative


def test_levels_and_stages():
    assert stages(Exercise("ppo.clipped_surrogate", 1)) == ("value",)
    assert stages(Exercise("ppo.clipped_surrogate", 1, "torch")) == ("value", "gradient")
    assert stages(Exercise("ppo.clipped_surrogate", 3)) == ("value", "gradient", "hard", "errors")
    assert stages(Exercise("cg.cg", 2)) == ("value", "gradient")
    assert stages(Exercise("stiefel.retract_qr", 2)) == ("value", "gradient")
    assert stages(Exercise("gae.gae", 2)) == ("value",)
    for wrong in ({"level": 4}, {"framework": "tf"}, {"points": {"style": 1}}, {"points": {"value": -1}}):
        with pytest.raises(ValueError):
            Exercise("cg.cg", **wrong)


def test_the_command_writes_files_and_never_over_them(tmp_path, capsys):
    arguments = ["exercise", "gae", "cg.cg", "--level", "3", "-o", str(tmp_path)]
    assert cli.main(arguments) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cg.py", "gae.py", "test_cg.py", "test_gae.py"]
    assert "Asked for: not symmetric" in (tmp_path / "cg.py").read_text(encoding="utf-8")
    assert cli.main(arguments) == 2 and "not written over" in capsys.readouterr().err
    assert cli.main(["exercise", "no.such", "-o", str(tmp_path)]) == 2


def test_not_started_says_verify(tmp_path, capsys):
    assert cli.main(["exercise", "ppo.clipped_surrogate", "-o", str(tmp_path)]) == 0
    place = f"{tmp_path}/ppo_clipped_surrogate.py:clipped_surrogate"
    assert cli.main(["verify", "ppo.clipped_surrogate", place]) == 2
    assert "NOT STARTED" in capsys.readouterr().out
    assert cli.main(["verify", "ppo.clipped_surrogate", place, "--level", "2"]) == 2
    assert "as it was handed out" in capsys.readouterr().out


def test_independent_solutions_pass():
    """Of level 1, by those right implementations of the conformance tests that take all arguments."""
    path = pathlib.Path(__file__).parents[1] / "conformance" / "test_right_implementations.py"
    spec = importlib.util.spec_from_file_location("right_implementations", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    passed = 0
    for name, f, options in list(module.RIGHT.values())[::3]:
        record = catalog.find(name)
        taken = set(inspect.signature(f).parameters) if inspect.isfunction(f) else set()
        hyper = {k for h in record.settings.values() for k in h}
        if not {*record.inputs, *hyper} <= taken or options != type(options)():
            continue
        result = judge_function(Exercise(name, 1), {record.f.__name__: f})
        assert result.status == "passed", f"{f.__name__}: {result.first}, {result.where}"
        passed += 1
    assert passed >= 10


def test_the_worked_terms_are_those_of_the_equations():
    found = {name: (label, value) for name, label, value in worked.worked("ppo.clipped_surrogate").terms}
    inputs = worked.worked("ppo.clipped_surrogate").inputs
    np.testing.assert_allclose(found["ratio"][1], np.exp(inputs["log_prob"] - inputs["old_log_prob"]), rtol=1e-12)
    assert found["J"][0] == "ppo-clipped" and found["dJ"][0] == "ppo-gradient"


def test_a_sampler_and_an_update_rule_have_examples():
    for name in ("score_models.ddim_sample", "adam.update"):
        example = worked.worked(name)
        assert checks.flatten(list(example.inputs.values())) or example.inputs
