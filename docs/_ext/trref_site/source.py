"""What a method's page needs to know of its module: the docstring in parts, and the code that each equation names."""

import ast
import dataclasses
import functools
import inspect
import io
import pathlib
import re
import textwrap
import tokenize

__all__ = ["Module", "Part", "Span", "home", "read", "terms"]

TAG = re.compile(r"#\s*eq\.\s*([^:]+)")  # what follows a colon is a remark
# the sections with which a docstring ends; other words in bold begin a paragraph of the text
RUN_IN = re.compile(r"\*\*(?P<name>Where implementations differ[^*]*?|Provenance)\.\*\*\s*")


@dataclasses.dataclass(frozen=True)
class Span:
    """Lines of code that compute an equation, first and last included, and the function that they stand in."""

    label: str
    first: int
    last: int
    function: str


@dataclasses.dataclass(frozen=True)
class Part:
    """A stretch of the docstring's text (RST) that ends with at most one labelled equation."""

    text: str
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """A method's module, taken apart."""

    path: pathlib.Path
    title: str
    parts: tuple[Part, ...]
    sections: dict  # run-in heading -> RST
    citation: str
    lines: tuple[str, ...]
    spans: tuple[Span, ...]
    code_starts: int

    @property
    def labels(self):
        """The equations' labels; their order is that of their numbers."""
        return tuple(label for part in self.parts for label in part.labels)

    def of(self, label):
        return [span for span in self.spans if span.label == label]


@functools.cache
def read(module_name):
    """Return the `Module` of a dotted name."""
    import importlib

    module = importlib.import_module(module_name)
    path = pathlib.Path(module.__file__)
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    title, body = _title(inspect.cleandoc(module.__doc__))
    parts, sections, citation = _docstring(body)
    first = tree.body[0]
    after = first.end_lineno + 1 if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else 1
    return Module(
        path=path,
        title=title,
        parts=parts,
        sections=sections,
        citation=citation,
        lines=tuple(text.splitlines()),
        spans=_spans(text, tree),
        code_starts=after + 1,
    )


def terms(module):
    """The mathematics that the methods of a family share."""
    return read(f"trref.{module.path.parent.name}.terms")


def home(module, label):
    """The module that holds the code of an equation: the page's own, or the family's terms."""
    if module.of(label):
        return module
    if (module.path.parent / "terms.py").is_file() and terms(module).of(label):
        return terms(module)
    raise ValueError(f"{module.path}: no code carries the tag of the equation {label}")


def _title(text):
    head, _, body = text.partition("\n\n")
    return " ".join(head.split()).rstrip("."), body


def _paragraphs(text):
    """Blocks of the docstring: a paragraph together with the indented blocks that belong to it."""
    blocks = []
    for block in re.split(r"\n[ \t]*\n", text):
        if blocks and block[:1] in (" ", "\t"):
            blocks[-1] += "\n\n" + block
        elif block.strip():
            blocks.append(block)
    return blocks


def _docstring(body):
    """Return parts, run-in sections and the citation."""
    idea, sections, name = [], {}, None
    for block in _paragraphs(body):
        if match := RUN_IN.match(block):
            name = match["name"]
            sections[name] = [block[match.end() :]]
        elif name:
            sections[name].append(block)
        else:
            idea.append(block)
    citation = ""
    if name and len(sections[name]) > 1:
        citation = sections[name].pop()
    parts, text = [], []
    for block in idea:
        text.append(block)
        labels = tuple(re.findall(r":label:\s*(\S+)", block))
        if labels:
            parts.append(Part("\n\n".join(text), labels))
            text = []
    if text:
        parts.append(Part("\n\n".join(text), ()))
    return tuple(parts), {k: "\n\n".join(v) for k, v in sections.items()}, citation


def _spans(text, tree):
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    lines = text.splitlines()
    spans = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or not (match := TAG.match(token.string)):
            continue
        line = token.start[0]
        if token.line[: token.start[1]].strip():
            around = [s for s in statements if s.lineno <= line <= s.end_lineno]
            nearest = min(around, key=lambda s: (s.end_lineno - s.lineno, -s.col_offset))
            first, last = nearest.lineno, nearest.end_lineno
        else:
            first = last = line
            while last < len(lines) and lines[last].strip():
                last += 1
        inside = next((f.name for f in functions if f.lineno <= line <= f.end_lineno), "")
        spans += [Span(label.strip(), first, last, inside) for label in match[1].split(",")]
    return tuple(spans)


def quiet_lines(module):
    """Lines that a reader of the mathematics may skip: docstrings, checks, signatures of several lines."""
    tree, quiet = ast.parse("\n".join(module.lines)), set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.ClassDef):
            continue
        if isinstance(function, ast.FunctionDef) and function.body[0].lineno > function.lineno + 1:
            quiet.update(range(function.lineno, function.body[0].lineno))
        for number, statement in enumerate(function.body):
            text = ast.unparse(statement)
            is_docstring = number == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_docstring or text.startswith("validate."):
                quiet.update(range(statement.lineno, statement.end_lineno + 1))
    return quiet


def function_bounds(module, name):
    """First and last line of a top-level function."""
    for node in ast.parse("\n".join(module.lines)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node.lineno, node.end_lineno
    return 1, len(module.lines)


def dedent(lines):
    return textwrap.dedent("\n".join(lines)).split("\n")
