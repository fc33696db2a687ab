"""The contracts of every catalogued function, and the links between equations and code."""

import inspect
import pathlib
import re

import numpy as np
import pytest

import trref
from trref import backend, catalog, checks

RECORDS = {record.name: record for record in catalog.records()}
PAIRS = [(name, contract) for name, record in RECORDS.items() for contract in checks.contracts_of(record)]
ROOT = pathlib.Path(trref.__file__).parent


@pytest.mark.parametrize(("name", "contract"), PAIRS, ids=[f"{n}-{c.__name__}" for n, c in PAIRS])
def test_contract(name, contract):
    contract(RECORDS[name])


@pytest.mark.parametrize("name", RECORDS)
def test_on_another_backend(name, other_backend):
    """On a real device every function gives NumPy's numbers to 1e-10."""
    checks.agrees_with_numpy(RECORDS[name], other_backend)


def test_names_are_unique_and_found():
    assert len(RECORDS) == len(catalog.records())
    for name, record in RECORDS.items():
        assert catalog.find(name) is record
        assert catalog.find(f"{record.family}.{name}") is record


def _tags(text):
    return {tag.strip() for line in re.findall(r"#\s*eq\.\s*([^\n]*)", text) for tag in line.split(",")}


@pytest.mark.parametrize("method", catalog.methods(), ids=lambda m: m.slug)
def test_equations_and_code_are_linked(method):
    """Every label has code, in the module or in the terms of its family; every tag has an equation."""
    text = pathlib.Path(method.module.__file__).read_text()
    labels = re.findall(r":label:\s*(\S+)", text)
    prefix = method.slug.replace("_", "-") + "-"
    shared = ROOT / method.family / "terms.py"
    tags = _tags(text) | {t for t in (_tags(shared.read_text()) if shared.exists() else ()) if t.startswith(prefix)}
    assert len(labels) == len(set(labels))
    assert set(labels) == tags
    assert all(label.startswith(prefix) for label in labels)
    if not isinstance(method.provenance, str):
        named = [name for group in method.provenance.values() for name in group]
        assert sorted(prefix + name for name in named) == sorted(labels)


@pytest.mark.parametrize("method", catalog.methods(), ids=lambda m: m.slug)
def test_public_functions_are_documented(method):
    title, blank, _ = method.module.__doc__.split("\n", 2)
    assert title.endswith(".") and not blank, "the docstring begins with a sentence that names the idea, on one line"
    assert len(method.module.__doc__) > 300
    assert "**Provenance.**" in method.module.__doc__
    assert "**Where implementations differ.**" in method.module.__doc__
    for name, member in vars(method.module).items():
        own = getattr(member, "__module__", None) == method.module.__name__ and not name.startswith("_")
        if own and (inspect.isroutine(member) or inspect.isclass(member)):
            assert (member.__doc__ or "").strip(), f"{name} has no docstring"


@pytest.mark.parametrize("method", catalog.methods(), ids=lambda m: m.slug)
def test_method_has_its_test_and_tutorial(method):
    """Small parts of a paper may share its tutorial."""
    root, paper = ROOT.parent, [m.slug for m in catalog.methods() if (m.family, m.key) == (method.family, method.key)]
    assert (root / "tests" / method.family / f"test_{method.slug}.py").is_file()
    assert any((root / "tutorials" / method.family / f"plot_{slug}.py").is_file() for slug in paper)


def test_method_modules_take_arrays_from_the_switch_only():
    """No method module imports numpy, scipy or cupy, nor calls xp while it is being imported."""
    pattern = re.compile(r"^\s*(import|from) (numpy|scipy|cupy|cupyx|jax|torch|autograd)\b", re.MULTILINE)
    for family in catalog.FAMILIES:
        for path in (ROOT / family).glob("*.py"):
            text = path.read_text()
            assert not pattern.search(text), path
            assert not re.search(r"^[A-Za-z_]\w* = (xp|linalg|special|sparse)\.", text, re.MULTILINE), path


def test_import_loads_no_scipy():
    import subprocess
    import sys

    code = "import sys, trref; print([m for m in ('scipy', 'matplotlib', 'cupy', 'sklearn') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_backend_of_results():
    """Results live where the inputs live."""
    record = catalog.find("ppo.clipped_surrogate")
    example = record.example(np.random.default_rng(0), 4)
    with trref.use_backend("strict"):
        value, gradient = record(checks.to_device(example))
        assert isinstance(value, backend.active().array_type)
        assert isinstance(gradient, backend.active().array_type)
