"""Which tutorials must run again: the state of each is a hash of its script and of all that this imports of trref.

The states of the last build stand in build/tutorials.json, its pages and figures in docs/auto_tutorials.
"""

import hashlib
import json
import shutil

import _changed
from _environment import ROOT, VENV

SCRIPTS, PAGES, KEPT = ROOT / "tutorials", ROOT / "docs" / "auto_tutorials", ROOT / "build" / "tutorials.json"
EVERYWHERE = (
    "docs/_ext/trref_site/figures.py",
    "docs/_ext/trref_site/notebooks.py",
    "trref/__init__.py",
    "trref/experiments/figures.py",
)


def states():
    """Return ``{family/plot_slug: hash}`` of the tutorials as they are now."""
    installed = sorted(p.name for p in VENV.glob("lib/*/site-packages/*.dist-info"))  # with their versions
    common = hashlib.sha256("\n".join(installed).encode())
    for name in EVERYWHERE:
        common.update((ROOT / name).read_bytes())
    found = {}
    for script in sorted(SCRIPTS.glob("*/plot_*.py")):
        state = common.copy()
        for path in (script, *needed(script)):
            state.update(path.read_bytes())
        found[f"{script.parent.name}/{script.stem}"] = state.hexdigest()
    return found


def needed(script):
    """Return the files of trref that a script imports, directly or not; all of them where the catalogue is asked."""
    found, new = set(), set(_changed.imports(script))
    while new:
        found |= new
        new = {name for module in new if (path := _file(module)) for name in _changed.imports(path)} - found
    if "trref.catalog" in found:  # it imports by name
        return sorted((ROOT / "trref").rglob("*.py"))
    return sorted({path for module in found if (path := _file(module))})


def _file(module):
    """The file of a dotted name; None for a name within a module."""
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def prepare(everything=False):
    """Let the gallery run those tutorials whose state is not that of the last build, or everything."""
    kept, now = _kept(), states()
    if everything or not kept or set(kept) - set(now):  # a page whose script is gone would stay
        shutil.rmtree(PAGES, ignore_errors=True)
        KEPT.unlink(missing_ok=True)
    for name in (name for name, state in now.items() if kept.get(name) != state):
        (PAGES / f"{name}.py.md5").unlink(missing_ok=True)  # by which sphinx-gallery knows what it has run
    return now


def keep(now):
    """Remember the states of those that have run."""
    ran = {name: state for name, state in now.items() if (PAGES / f"{name}.py.md5").is_file()}
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps({**_kept(), **ran}, indent=1), encoding="utf-8")


def _kept():
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
