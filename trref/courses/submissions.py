"""What a student handed in: where it is, whether it was begun, and whether it keeps to the rules."""

import ast
import dataclasses
import json
import pathlib

__all__ = ["Submission", "find", "not_started", "students", "suspicions", "violations"]

LARGEST = 1 << 20  # bytes of a file
MAGICS = ("%", "!", "?")
TRREF = "trref"
# what reaches into the interpreter or the harness, and has no place in an exercise
REACHES = {
    "_getframe": "frames of the interpreter",
    "currentframe": "frames of the interpreter",
    "f_back": "frames of the interpreter",
    "f_globals": "frames of the interpreter",
    "f_locals": "frames of the interpreter",
    "get_objects": "the interpreter's objects",
    "get_referrers": "the interpreter's objects",
    "settrace": "tracing",
    "setprofile": "tracing",
    "__subclasses__": "the interpreter's classes",
}
MODULES = {
    "ctypes": "memory",
    "gc": "the interpreter's objects",
    "inspect": "frames and sources",
    "linecache": "sources",
    "importlib": "imports by name",
    "pkgutil": "imports by name",
    "subprocess": "processes",
    "multiprocessing": "processes",
    "socket": "the network",
    "urllib": "the network",
    "requests": "the network",
    "pickle": "pickles",
    "sys": "the interpreter",
    "os": "the system",
    "builtins": "builtins",
    "signal": "signals",
    "threading": "threads",
}
CALLS = {"eval", "exec", "__import__", "compile", "globals", "vars", "open"}


@dataclasses.dataclass(frozen=True)
class Submission:
    """A student's answer to one exercise: its source, and the file that it came from; no source where it is missing."""

    student: str
    source: str | None
    file: str = ""
    problem: str = ""


def students(folder):
    """Return the folders of the students, by name: every folder, and every file or notebook that stands alone."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith((".", "_")))
    found = {p.name: p for p in entries if p.is_dir()}
    found |= {
        p.stem: p
        for p in entries
        if p.suffix in (".py", ".ipynb") and p.stem not in found
    }
    if not found:
        raise ValueError(f"{folder} holds no submission: a folder a student, or files")
    return found


def find(student, place, exercise):
    """Return the `Submission` of a student to an exercise: the file of its name, or one that has the function."""
    paths = (
        [place]
        if place.is_file()
        else sorted(p for p in place.rglob("*") if _may_be(p))
    )
    named = [p for p in paths if p.stem == exercise.stem]
    others = [p for p in paths if p not in named and not p.name.startswith("test_")]
    problem = ""
    for path in [*named, *others]:
        try:
            source = _source(path)
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            RecursionError,
            AttributeError,
        ) as error:
            problem = problem or f"{path.name} cannot be read: {type(error).__name__}"
            continue
        if path in named or _defines(source, exercise.function):
            file = str(path.relative_to(place)) if path != place else path.name
            return Submission(student, source, file)
    return Submission(student, None, problem=problem)


def _may_be(path):
    hidden = any(part.startswith(".") for part in path.parts)
    return (
        path.suffix in (".py", ".ipynb")
        and path.is_file()
        and not path.is_symlink()
        and not hidden
    )


def _source(path):
    if path.stat().st_size > LARGEST:
        raise ValueError("too large")
    text = path.read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    return from_notebook(json.loads(text)) if path.suffix == ".ipynb" else text


def from_notebook(notebook):
    """Return the code of a notebook, without its locked cells, magics, and checks."""
    parts = []
    for cell in notebook["cells"]:
        rules = cell.get("metadata", {}).get("nbgrader", {})
        if cell.get("cell_type") != "code" or (
            rules.get("locked") and not rules.get("solution")
        ):
            continue
        source = cell["source"]
        lines = (source if isinstance(source, str) else "".join(source)).split("\n")
        whole = next((line for line in lines if line.strip()), "").startswith("%%")
        if whole and not lines[0].startswith("%%verify"):
            continue  # a cell of another language
        parts.append("\n".join(_without_magic(line) for line in lines))
    return "\n\n".join(parts)


def _without_magic(line):
    bare = line.lstrip()
    magic = bare.startswith(MAGICS) or bare.rstrip().endswith("?")
    return f"{line[: len(line) - len(bare)]}pass" if magic else line


def _tree(source):
    """The syntax tree; None where there is none."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defines(source, function):
    tree = _tree(source)
    return tree is not None and any(
        getattr(n, "name", None) == function for n in tree.body
    )


def not_started(source, function):
    """Return whether the body is as it was handed out: nothing but a docstring and NotImplementedError."""
    tree = _tree(source)
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return all(_empty(statement) for statement in node.body)
    return False


def _empty(statement):
    if isinstance(statement, ast.Raise):
        return "NotImplementedError" in ast.unparse(statement)
    constant = isinstance(statement, ast.Expr) and isinstance(
        statement.value, ast.Constant
    )
    return constant or isinstance(statement, ast.Pass)


def violations(source):
    """Return what breaks the rules, a line each: trref used, or the harness reached for."""
    tree, found = _tree(source), []
    for node in ast.walk(tree) if tree else ():
        line = getattr(node, "lineno", 0)
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            called = ast.unparse(node.func).rpartition(".")[2]
            names = (
                [str(node.args[0].value)]
                if called in ("__import__", "import_module", "find_spec")
                else []
            )
        if any(name.split(".")[0] == TRREF for name in names):
            found.append((line, f"line {line} imports trref"))
        if isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in REACHES:
                found.append(
                    (line, f"line {line} reaches for {REACHES[name]} ({name})")
                )
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.modules":
            found.append(
                (line, f"line {line} reaches for loaded modules (sys.modules)")
            )
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and "/proc/" in node.value
        ):
            found.append(
                (line, f"line {line} reaches for processes ({node.value[:20]})")
            )
    return [text for _, text in sorted(dict.fromkeys(found))]


def suspicions(source):
    """Return what a person should look at: allowed, and of no use in an exercise."""
    tree, found = _tree(source), []
    for node in ast.walk(tree) if tree else ():
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            found += [
                (line, f"line {line} imports {m}")
                for m in modules
                if m.split(".")[0] in MODULES
            ]
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in CALLS
        ):
            found.append((line, f"line {line} calls {node.func.id}"))
    return [text for _, text in sorted(dict.fromkeys(found))]
