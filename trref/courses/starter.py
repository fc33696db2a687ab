"""Starter files: what a student begins with, from the record and the page alone."""

import textwrap

from trref import catalog
from trref.courses.exercise import (
    asked,
    contract,
    derivative_of,
    own_labels,
    questions,
    signature,
)
from trref.courses.plain import page, prose

__all__ = ["BEGIN", "END", "code", "command", "introduction"]

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
IMPORTS = {
    "numpy": "import numpy as np",
    "torch": "import torch",
    "jax": "import jax\nimport jax.numpy as jnp",
}
RULES = "Rules: do not import trref; no other files; what the function is given it does not change."


def command(exercise, file=None):
    """Return the command that checks a file."""
    framework = (
        f" --framework {exercise.framework}" if exercise.framework != "numpy" else ""
    )
    place = file or f"{exercise.stem}.py"
    return f"trref verify {exercise.name} {place}:{exercise.function} --level {exercise.level}{framework}"


def introduction(exercise, *, markdown=False):
    """Return the idea, the equations, what is asked, and two questions."""
    record = exercise.record
    method = page(catalog.method(record.family, record.method_name).module)
    own = own_labels(record)
    if markdown:
        lines = [
            f"# {method.title}",
            f"*Exercise `{exercise.name}`, level {exercise.level}*",
            method.markdown(own),
        ]
    else:
        lines = [
            method.title,
            f"Exercise {exercise.name}, level {exercise.level}",
            method.text(own),
        ]
    if own:
        lines.append(f"Equations of this function: {', '.join(own)}.")
    stages = "\n".join(f"- {line}" for line in asked(exercise))
    lines += ["**What is asked**" if markdown else "What is asked", stages]
    if not markdown:
        lines += [f"Check it:\n    {command(exercise)}", RULES]
    numbered = enumerate(questions(record), start=1)
    heading = "**Questions**" if markdown else "Questions"
    texts = [
        textwrap.fill(f"{i}. {prose(q)}", 100, subsequent_indent="   ")
        for i, q in numbered
    ]
    return "\n\n".join([*lines, heading, *([] if markdown else texts)])


def code(exercise):
    """Return the code to complete: imports, signatures with docstrings, bodies that raise NotImplementedError."""
    record, blocks = exercise.record, []
    if isinstance(record, catalog.UpdateRule):
        text = "Return the state before the first step, whatever you want it to be."
        blocks.append(_function("init", "(params)", text))
    blocks.append(
        _function(
            exercise.function, signature(record.f, _held(record)), contract(exercise)
        )
    )
    if (
        isinstance(record, catalog.Transform)
        and "gradient" in exercise.worth
        and exercise.by_hand
    ):
        derivative = derivative_of(record)
        parameters = signature(record.f, _held(record), more=[derivative.last])
        blocks.append(
            _function(derivative.name, parameters, contract(exercise, derivative))
        )
    return "\n\n\n".join([IMPORTS[exercise.framework], *blocks]) + "\n"


def _held(record):
    return tuple(getattr(record, "stopped", ()))


def _function(name, parameters, doc):
    doc = textwrap.indent(
        doc.replace("\\", "\\\\").replace('"""', "'''"), "    "
    ).strip()
    body = f"    {BEGIN}\n    raise NotImplementedError\n    {END}"
    several = "\n" in doc
    return f'def {name}{parameters}:\n    """{doc}{chr(10) + "    " if several else ""}"""\n{body}'
