"""What the tutorials' scripts say of themselves: title, claims, assertions, run time."""

import ast
import dataclasses
import functools
import pathlib
import re
import shutil

from trref_site import rst

__all__ = ["Claim", "Tutorial", "read", "stage"]

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "tutorials"
STAGED = ROOT / "build" / "tutorials"
EXERCISES = re.compile(r"^# (\*\*)?Exercises?\b", re.MULTILINE)
GALLERY = ROOT / "docs" / "auto_tutorials"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A ``.. claim::`` of a tutorial: the paper's words, and its options."""

    text: str
    options: dict


@dataclasses.dataclass(frozen=True)
class Tutorial:
    path: pathlib.Path
    title: str
    summary: str
    claims: tuple[Claim, ...]
    assertions: tuple[str, ...]
    exercises: bool
    imports: frozenset[str]

    @property
    def document(self):
        return f"/auto_tutorials/{self.path.parent.name}/{self.path.stem}"

    @property
    def thumbnail(self):
        return GALLERY / self.path.parent.name / "images" / "thumb" / f"sphx_glr_{self.path.stem}_thumb.png"

    @property
    def figures(self):
        folder = GALLERY / self.path.parent.name / "images"
        return sorted(p for p in folder.glob(f"sphx_glr_{self.path.stem}_*.png") if not p.stem.endswith("_dark"))

    @property
    def seconds(self):
        """Run time as the gallery reports it, or None."""
        page = GALLERY / self.path.parent.name / f"{self.path.stem}.rst"
        if not page.is_file():
            return None
        match = re.search(r"\((\d+) minutes (\d+\.\d+) seconds\)", page.read_text(encoding="utf-8"))
        return 60 * int(match[1]) + float(match[2]) if match else None


@functools.cache
def read(family, slug):
    """Return the `Tutorial` of a method, or None."""
    path = SCRIPTS / family / f"plot_{slug}.py"
    return read_file(path) if path.is_file() else None


def every():
    """The tutorials of all families."""
    return [read(path.parent.name, path.stem.removeprefix("plot_")) for path in sorted(SCRIPTS.glob("*/plot_*.py"))]


def _imports(tree):
    """Dotted names of what is imported, each module and each name in one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return frozenset(found)


def read_file(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = (ast.get_docstring(tree) or "").split("\n")
    title, summary = lines[0], _absolute("\n".join(lines[2:]).strip(), path)
    claims, assertions = tuple(_claims(_absolute(text, path))), tuple(_assertions(tree))
    return Tutorial(path, title, summary, claims, assertions, bool(EXERCISES.search(text)), _imports(tree))


def _absolute(text, path):
    """Links to documents as they must be written on another page than the tutorial's."""
    folder = f"/auto_tutorials/{path.parent.name}"
    text = re.sub(r":doc:`([^`</]+)`", rf":doc:`{folder}/\1`", text)
    return re.sub(r":doc:`([^`<]+)<([^`>/]+)>`", rf":doc:`\1<{folder}/\2>`", text)


def _claims(text):
    """Comments of the form ``# .. claim:: text``, options indented below, as Sphinx will read them."""
    yield from claims_of([line.removeprefix("#").removeprefix(" ") for line in text.splitlines() if line[:1] == "#"])


def claims_of(lines):
    """The claims in lines of RST."""
    for i, line in enumerate(lines):
        if not line.startswith(".. claim::"):
            continue
        words, options, last = [line.removeprefix(".. claim::").strip()], {}, None
        for more in lines[i + 1 :]:
            if more.strip() and not more.startswith("   "):
                break
            if match := re.match(r"\s+:(\w+):\s*(.*)", more):
                last = match[1]
                options[last] = match[2].strip()
            elif more.strip() and last:
                options[last] += " " + more.strip()
            elif more.strip():
                words.append(more.strip())
        yield Claim(" ".join(w for w in words if w), options)


def _assertions(tree):
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assert):
            continue
        if isinstance(node.msg, ast.Constant):
            yield str(node.msg.value)
        elif isinstance(node.msg, ast.JoinedStr):
            pieces = [v.value if isinstance(v, ast.Constant) else "…" for v in node.msg.values]
            yield "".join(pieces)
        elif node.msg is None:
            yield rst.code(ast.unparse(node.test))


def stage(families, only=()):
    """Copy the scripts to build/tutorials with a heading for each family, as sphinx-gallery wants it.

    Parameters
    ----------
    families : mapping of str to str
        Name and one line about it.
    only : sequence of str
        Methods; all if empty.
    """
    shutil.rmtree(STAGED, ignore_errors=True)
    STAGED.mkdir(parents=True)
    (STAGED / "GALLERY_HEADER.rst").write_text(HEADER, encoding="utf-8")
    for path in sorted(SCRIPTS.glob("*/plot_*.py")):
        if only and path.stem.removeprefix("plot_") not in only:
            continue
        folder = STAGED / path.parent.name
        if not folder.exists():
            folder.mkdir()
            words = families.get(path.parent.name, "")
            (folder / "GALLERY_HEADER.rst").write_text(
                f"{rst.heading(path.parent.name.capitalize(), 1)}\n{words}\n", encoding="utf-8"
            )
        shutil.copy2(path, folder)


HEADER = """\
Tutorials
=========

One a method: a question, an experiment of seconds, figures, and what shows of the paper's claim, as assertions that ran
when this page was built. Each downloads as a script and as a notebook, and says at its end how long it took.

"""
