"""The tools: a new method keeps every contract, the README is current, environments fail clearly."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))


@pytest.fixture
def copy(tmp_path):
    """A checkout at a path with a space in it."""
    target = tmp_path / "a checkout"
    ignore = shutil.ignore_patterns(".venv", ".git", "build", "__pycache__", "*.egg-info", ".hypothesis", ".*_cache")
    shutil.copytree(ROOT, target, ignore=ignore)
    return target


def _python(cwd, *arguments):
    import os

    environment = {**os.environ, "PYTHONPATH": str(cwd), "MPLBACKEND": "agg"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


def test_new_methods_keep_whatever_is_asked(copy):
    """One of each record type, in a family that exists and in one that does not: tools/check.py asks everything."""
    pytest.importorskip("matplotlib")
    import new_method

    slugs = []
    for record, family in zip(new_method.RECORDS, ("policy", *["physics"] * 5), strict=True):
        slugs.append(f"my_{record}")
        made = _python(copy, "tools/new_method.py", slugs[-1], family, "--record", record)
        assert made.returncode == 0, made.stderr
    result = _python(copy, "tools/check.py", *slugs)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("  ok  ") == 9 * len(slugs)
    again = _python(copy, "tools/new_method.py", "my_solver", "physics", "--record", "solver")
    assert again.returncode != 0 and "already there" in again.stderr


def test_what_a_method_lacks_is_found(copy):
    """A wrong gradient, an equation without code, a mutant that survives, a deviation that is none, a bad import."""
    module, known = copy / "trref/policy/ppo.py", copy / "trref/catalog/policy/ppo.py"
    text = module.read_text().replace("dJ = xp.where(unclipped <= clipped, unclipped, 0)", "dJ = 2 * unclipped")
    text = text.replace(
        "return outside.astype", "idle = len(outside) + 0 * len(outside)\n    return (idle / idle) * outside.astype"
    )
    module.write_text(text.replace(":label: ppo-fraction", ":label: ppo-share"))
    known.write_text("import os\n" + known.read_text())
    result = _python(copy, "tools/check.py", "ppo")
    assert result.returncode == 1, result.stdout
    failed = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("  FAIL")}
    assert {"style", "documents", "contracts", "tests", "mutants"} <= failed, result.stdout
    assert "wrong gradient" in result.stdout and "ppo-share" in result.stdout


def test_two_checkouts_are_compared(copy):
    """The checkout against itself, and against one in which a sign, a setting and a function's name differ."""
    command = ["tools/compare_checkouts.py", ROOT, copy, "ppo", "adam"]
    same = _python(ROOT, *command)
    assert same.returncode == 0 and ", 0 differ" in same.stdout, same.stdout + same.stderr
    module, known = copy / "trref/policy/ppo.py", copy / "trref/catalog/policy/ppo.py"
    module.write_text(module.read_text().replace("return -J, -dJ", "return -J, dJ"))
    known.write_text(known.read_text().replace('"atari": {"clip": 0.1}, ', "").replace("clip_fraction", "fraction"))
    module.write_text(module.read_text().replace("clip_fraction", "fraction"))
    found = _python(ROOT, *command)
    assert found.returncode == 1
    for line in (
        "only before: settings: atari: clip=0.1: ppo.clipped_surrogate",
        "only before: ppo.clip_fraction",
        "differs: ppo.clipped_surrogate: ",
    ):
        assert line in found.stdout, found.stdout + found.stderr
    (copy / "CHANGELOG.md").write_text("- `ppo.clip_fraction` -> `ppo.fraction`\n")
    assert "ppo.clip_fraction" not in _python(ROOT, *command).stdout


def test_families_agree():
    import new_method

    from trref import catalog

    assert new_method.families() == list(catalog.FAMILIES)


def test_the_catalogue_in_the_readme_is_current():
    import catalogue

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert catalogue.updated(text) == text, "run .venv/bin/python tools/catalogue.py"


def test_the_readmes_numbers():
    import numpy as np

    from trref.policy.ppo import clipped_surrogate

    loss, gradient = clipped_surrogate(np.log([1.5, 0.5]), np.zeros(2), np.array([1.0, 1.0]), clip=0.2)
    assert loss == pytest.approx(-0.85) and gradient == pytest.approx([0, -0.25])


def test_a_package_that_cannot_be_had_is_named(tmp_path, monkeypatch):
    import _environment

    (tmp_path / "setup.py").write_text("")
    monkeypatch.setattr(_environment, "ROOT", tmp_path)
    monkeypatch.setattr(_environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(_environment, "python", lambda: pathlib.Path(sys.executable))
    refused = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found for nothing>=3\nmore")
    monkeypatch.setattr(_environment, "_answers", lambda program, *extras: not extras)
    monkeypatch.setattr(_environment.subprocess, "run", lambda *a, **k: refused)
    with pytest.raises(SystemExit, match=r"extra 'tour' .*\n.*No matching distribution found for nothing>=3"):
        _environment.ensure("tour")


class _Machine:
    """Stands for Python's venv and pip: files of the environment say what is there."""

    def __init__(self, venv):
        self.venv, self.done, self.interrupted = venv, [], None

    def run(self, command, **_):
        ready = not self.venv.is_symlink() and (self.venv / "bin" / "python").exists()
        what = command[2] if command[1] == "-m" else "ask"
        if what != "ask":
            self.done.append(what)
        if what == "venv":
            self.venv.joinpath("bin").mkdir(parents=True)
            self.venv.joinpath("bin", "python").write_text("")
            self._stop_at("venv")
            self.venv.joinpath("pip").write_text("")
        elif what == "pip":
            self._stop_at("pip")
            self.venv.joinpath("packages").write_text("")
        elif not ready:
            raise FileNotFoundError(command[0])
        else:
            needed = self.venv / ("pip" if "find_spec" in command[3] else "packages")
            return subprocess.CompletedProcess(command, int(not needed.exists()), "", "")
        return subprocess.CompletedProcess(command, 0, "", "")

    def _stop_at(self, what):
        if self.interrupted == what:
            self.interrupted = None
            raise KeyboardInterrupt


@pytest.fixture
def machine(tmp_path, monkeypatch):
    import _environment

    (tmp_path / "setup.py").write_text("")
    machine = _Machine(tmp_path / ".venv")
    monkeypatch.setattr(_environment, "ROOT", tmp_path)
    monkeypatch.setattr(_environment, "VENV", machine.venv)
    monkeypatch.setattr(_environment, "python", lambda: machine.venv / "bin" / "python")
    monkeypatch.setattr(_environment.subprocess, "run", machine.run)
    return machine


SPOILED = {
    "nothing there": lambda venv: None,
    "a link to nothing": lambda venv: venv.symlink_to(venv.parent / "gone"),
    "a file": lambda venv: venv.write_text("junk"),
    "a folder of junk": lambda venv: (venv.mkdir(), (venv / "bin").write_text("junk")),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_the_environment_is_made_whatever_is_in_its_place(machine, spoil):
    import _environment

    spoil(machine.venv)
    assert _environment.ensure("test") == str(machine.venv / "bin" / "python")
    assert machine.done == ["venv", "pip"] and not machine.venv.is_symlink()
    _environment.ensure("test")
    assert machine.done == ["venv", "pip"], "the second call finds everything there"


def test_a_link_is_removed_and_not_what_it_leads_to(machine, tmp_path):
    import _environment

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data").write_text("kept")
    machine.venv.symlink_to(tmp_path / "elsewhere")
    _environment.ensure("test")
    assert (tmp_path / "elsewhere" / "data").read_text() == "kept" and (machine.venv / "pip").exists()


@pytest.mark.parametrize(("at", "after"), [("venv", ["venv", "pip"]), ("pip", ["pip"])])
def test_what_was_interrupted_is_done_by_the_next_call(machine, at, after):
    import _environment

    machine.interrupted = at
    with pytest.raises(KeyboardInterrupt):
        _environment.ensure("test")
    machine.done.clear()
    _environment.ensure("test")
    assert machine.done == after


def test_a_stamp_without_its_packages_does_not_count(machine):
    import _environment

    _environment.ensure("test")
    (machine.venv / "packages").unlink()
    machine.done.clear()
    _environment.ensure("test")
    assert machine.done == ["pip"]


def test_packages_that_lack_are_noticed(tmp_path):
    """By Python's own metadata: of this environment, and of one whose extra wants a package that nobody has."""
    import os

    import _environment

    assert subprocess.run([sys.executable, "-I", "-c", _environment.HAS_ALL, "test"], check=False).returncode == 0
    metadata = tmp_path / "trref-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    requires = 'Requires-Dist: numpy>=2\nRequires-Dist: no-such-package>=1; extra == "odd"\n'
    metadata.write_text("Metadata-Version: 2.1\nName: trref\nVersion: 0.1\n" + requires)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for extra, ends in (("even", 0), ("odd", 1)):
        command = [sys.executable, "-c", _environment.HAS_ALL, extra]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == ends


def test_no_worker_outlives_the_tour():
    """Killed outright, the command leaves nobody behind who holds its output open."""
    program = """
import time
from trref import catalog, checks
outcomes = checks.check_methods([catalog.method("krylov", slug) for slug in ("cg", "gmres", "minres")], jobs=2)
next(outcomes)
print("at work", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "at work\n"
        process.kill()
        process.communicate(timeout=60)  # ends when the last holder of the pipe has


def test_an_old_python_is_refused(monkeypatch):
    import _environment

    monkeypatch.setattr(_environment, "OLDEST", (99, 0))
    with pytest.raises(SystemExit, match=r"Python 99\.0 or later is needed"):
        _environment.ensure("tour")


def test_a_change_touches_its_method_and_those_that_use_it():
    import _changed

    chosen = _changed.selection(["trref/tokens/terms.py"])
    assert {"tests/tokens/test_grpo.py", "tests/test_every_method.py"} <= set(chosen)
    assert {"[grpo]", "[grpo.", "[plot_grpo]"} <= set(chosen[-1].split(" or "))
    assert "[trpo]" not in chosen[-1] and "tests/policy/test_trpo.py" not in chosen
    assert "tests/krylov/test_cg.py" in _changed.selection(["trref/catalog/krylov/cg.py"])
    assert _changed.selection(["tests/policy/test_ppo.py"]) == ["tests/policy/test_ppo.py", "-k", "test_ppo.py"]
    assert "[plot_ppo]" in _changed.selection(["tutorials/policy/plot_ppo.py"])[-1]
    assert _changed.selection(["docs/gpu.rst"]) is None
    assert _changed.selection(["docs/gpu.rst", "trref/signature.py"]) == []


def test_the_tests_of_a_change_are_found():
    import _changed

    chosen = _changed.selection(["trref/catalog/sharpness/sam.py"])
    found = _python(ROOT, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *chosen).stdout
    for test in (
        "test_every_method.py::test_contract[sam.perturbed_gradient-gradient]",
        "test_every_method.py::test_equations_and_code_are_linked[sam]",
        "test_properties.py::test_malformed_inputs[sam.sharpness]",
        "test_tutorials.py::test_tutorial[plot_sam]",
        "test_mutants.py::test_no_excuse_is_stale[sam.perturbed_gradient]",
        "sharpness/test_sam.py::",
    ):
        assert test in found
    assert "[asam" not in found


@pytest.mark.parametrize(("seconds", "factor", "over"), [(9, 1, False), (30, 1, True), (30, 3, False), (15, 1, True)])
def test_tutorials_have_a_budget_in_the_time_of_the_machine(tmp_path, capsys, seconds, factor, over):
    """Two of 9 s are within 1.5 times 8 s on average; one of 30 s is over 22.5 s, unless the machine was slower."""
    import docs

    pages = [tmp_path / f"plot_{name}.rst" for name in "ab"]
    for page in pages:
        page.write_text(f"**Total running time of the script:** (0 minutes {seconds}.000 seconds)\n")
    assert docs.budget(pages, factor) is over
    assert ("plot_a" in capsys.readouterr().out) or not over
    assert docs.budget([], factor) and not docs.budget([], factor, whole=False)


def test_a_tutorial_without_its_time_is_over_the_budget(tmp_path):
    import docs

    (tmp_path / "plot_a.rst").write_text("Nothing")
    assert docs.budget([tmp_path / "plot_a.rst"], 1.0)


def test_every_member_of_an_interface_is_told_from_the_others():
    """tools/full.py asks it of all interfaces; a member that is taken for another one is reported."""
    import full

    groups = full.equal_candidates_of("surrogate")
    assert "surrogate" in full.interfaces() and len(groups) > 5
    assert [full.confused("surrogate", number) for number in range(len(groups))] == [""] * len(groups)


def test_a_member_that_is_taken_for_another_is_reported(monkeypatch):
    import full

    groups = full.equal_candidates_of("surrogate")
    monkeypatch.setattr(full, "as_function", lambda candidate, same=full.as_function: same(groups[1][0]))
    assert "is identified as" in full.confused("surrogate", 0)
