r"""A method's page in plain symbols: what a starter file says of the idea and the equations.

``plain(r"\frac{r_k^\top z_k}{p_k^\top A p_k}")`` is ``"(rₖᵀ zₖ)/(pₖᵀ A pₖ)"``. Not all of TeX is known, only what the
pages use; what is unknown stays as it is.
"""

import dataclasses
import inspect
import re
import textwrap

__all__ = ["Page", "page", "plain", "prose"]

GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi pi rho sigma tau phi"
        " varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        "αβγδεεζηθϑκλμνξπρστφφχψωΓΔΘΛΞΠΣΦΨΩ",
        strict=True,
    )
)
SPACE = "\0"  # of a quad
SIGNS = {
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "in": "∈", "notin": "∉", "infty": "∞",
    "sum": "Σ", "prod": "Π", "int": "∫", "partial": "∂", "nabla": "∇", "cdot": "·", "times": "×", "pm": "±",
    "approx": "≈", "sim": "~", "propto": "∝", "to": "→", "leftarrow": "←", "mapsto": "↦", "gets": "←", "odot": "⊙",
    "circ": "∘", "langle": "⟨", "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "ell": "ℓ",
    "mid": "|", "dots": "…", "ldots": "…", "cdots": "…", "quad": SPACE, "qquad": SPACE, "top": "ᵀ", "dagger": "†",
    "perp": "⊥", "succ": "≻", "succeq": "⪰", "ll": "≪", "gg": "≫", "cup": "∪", "cap": "∩", "setminus": "∖",
    "exists": "∃", "forall": "∀", "equiv": "≡", "star": "*", "ast": "*", "Longleftrightarrow": "⟺", "iff": "⟺",
    "lvert": "|", "rvert": "|", "lVert": "‖", "rVert": "‖", "neg": "¬", "wedge": "∧", "vee": "∨", "otimes": "⊗",
    "big": "", "Big": "", "bigl": "", "bigr": "", "Bigl": "", "Bigr": "", "left": "", "right": "", "displaystyle": "",
    "bigg": "", "Bigg": "", "biggl": "", "biggr": "", "limits": "", "nonumber": "", "middle": "", "colon": ":",
}  # fmt: skip
FONTS = "mathrm mathbf mathbb mathcal mathit operatorname text textit textrm boldsymbol mathsf underbrace".split()
ACCENTS = {
    "hat": "̂",
    "widehat": "̂",
    "tilde": "̃",
    "widetilde": "̃",
    "bar": "̄",
    "overline": "̄",
    "dot": "̇",
}
ACCENTS |= {"underline": "̲", "vec": "⃗"}
RAISED = dict(zip("0123456789+-=()niTkt", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱᵀᵏᵗ", strict=True)) | {
    "ᵀ": "ᵀ"
}
LOWERED = dict(
    zip(
        "0123456789+-=()aehijklmnoprstuvx",
        "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ",
        strict=True,
    )
)
TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[{}^_]|\s+|.", re.DOTALL)


def plain(latex):
    """Return a formula in plain symbols, on one line, or on as many as it has rows."""
    text = re.sub(r"\\(begin|end)\{\w+\*?\}(\{[^}]*\})?", " ", latex)
    rows = re.split(r"\\\\(?:\[[^\]]*\])?", text)
    lines = (" ".join(_Reader(row.replace("&", " ")).all().split()) for row in rows)
    return "\n".join(line.replace(SPACE, "  ").strip() for line in lines if line)


class _Reader:
    """Reads TeX from left to right."""

    def __init__(self, text):
        self.tokens = TOKEN.findall(text)

    def all(self, end=None):
        found = []
        while self.tokens and self.tokens[0] != end:
            found.append(self.one(found))
        if self.tokens:
            self.tokens.pop(0)
        return "".join(found)

    def one(self, before=()):
        """The next thing: a group, a command, an index, a character."""
        token = self.tokens.pop(0)
        if token == "{":
            return self.all("}")
        if token in "^_":
            return _index(token, self.argument())
        if token.isspace():
            return " "
        if not token.startswith("\\"):
            return "*" if token == "∗" else token
        name = token[1:]
        if not name.isalpha():
            return {",": " ", ";": " ", ":": " ", "!": "", " ": " ", "|": "‖"}.get(
                name, name
            )
        if name in ("frac", "tfrac", "dfrac"):
            return f"{_grouped(self.argument())}/{_grouped(self.argument())}"
        if name == "sqrt":
            return f"√({self.argument()})"
        if name in FONTS:
            return self.argument()
        if name in ACCENTS:
            inner = self.argument()
            return inner[:1] + ACCENTS[name] + inner[1:]
        if name in GREEK or name in SIGNS:
            return (GREEK | SIGNS)[name]
        joined = before and before[-1][-1:].isalnum()
        return f"{' ' if joined else ''}{name}{'' if self.tokens[:1] in ([], ['('], ['{'], ['_'], ['^']) else ' '}"

    def argument(self):
        while self.tokens and self.tokens[0].isspace():
            self.tokens.pop(0)
        return self.one().strip() if self.tokens else ""


def _index(sign, text):
    small = RAISED if sign == "^" else LOWERED
    if text and all(c in small for c in text):
        return "".join(small[c] for c in text)
    return f"{sign}{text}" if text.isalpha() or len(text) == 1 else f"{sign}({text})"


def _grouped(text):
    return text if re.fullmatch(r"[\w.̂̃̄]+", text) else f"({text})"


def prose(rst):
    """Return a paragraph of reStructuredText as plain text."""
    text = re.sub(r":math:`([^`]+)`", lambda m: plain(m[1]), rst)
    text = re.sub(r":eq:`([^`]+)`", r"equation [\1]", text)
    text = re.sub(r":\w+(?::\w+)?:`~?([^`<]+?)(?:\s*<[^>]*>)?`", r"\1", text)
    return re.sub(
        r"``([^`]+)``|(?<!\w)`([^`]+)`|\*\*?([^*]+)\*\*?",
        lambda m: m[1] or m[2] or m[3],
        text,
    )


@dataclasses.dataclass(frozen=True)
class Page:
    """What a method's docstring says: a title, then paragraphs and equations, each (label, TeX), in their order."""

    title: str
    blocks: tuple  # of str (RST) and (str, str)
    sections: dict

    @property
    def labels(self):
        return tuple(
            block[0] for block in self.blocks if isinstance(block, tuple) and block[0]
        )

    def text(self, own=(), width=100):
        """The idea and the equations in plain symbols; those that are `own` are pointed at."""
        lines = []
        for block in self.blocks:
            if isinstance(block, tuple):
                label, tex = block
                formula = textwrap.indent(
                    plain(tex), " → " if label in own else "   ", lambda line: True
                )
                formula = formula.replace("\n → ", "\n   ")
                lines.append(f"{formula}{f'    [{label}]' if label else ''}")
            elif re.match(r"=+\s", block):
                lines.append(_table(block))
            else:
                lines.append(
                    textwrap.fill(
                        " ".join(prose(block).split()), width, break_long_words=False
                    )
                )
        return "\n\n".join(lines)

    def markdown(self, own=()):
        """The same for a notebook, whose equations are typeset."""
        lines = []
        for block in self.blocks:
            if isinstance(block, tuple):
                label, tex = block
                tag = (
                    f" \\tag{{{label}{' ←' if label in own else ''}}}" if label else ""
                )
                lines.append(f"$$ {' '.join(tex.split())}{tag} $$")
            elif re.match(r"=+\s", block):
                lines.append(f"```\n{_table(block)}\n```")
            else:
                text = re.sub(r":math:`([^`]+)`", r"$\1$", " ".join(block.split()))
                text = re.sub(r":eq:`([^`]+)`", r"(\1)", text)
                text = re.sub(
                    r":\w+(?::\w+)?:`~?([^`<]+?)(?:\s*<[^>]*>)?`", r"`\1`", text
                )
                lines.append(text.replace("``", "`"))
        return "\n\n".join(lines)


def _table(block):
    """The rows of a table of symbols and arguments."""
    rows = [line for line in block.split("\n") if line.strip("= ")]
    cells = [
        [prose(c) for c in re.split(r"\s{2,}", row.strip(), maxsplit=1)] for row in rows
    ]
    width = max(len(row[0]) for row in cells)
    return "\n".join(
        f"   {row[0]:{width}}  {' '.join(row[1:])}".rstrip() for row in cells
    )


def page(module):
    """Return the `Page` of a method's module."""
    title, _, body = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    idea, *rest = re.split(r"^\*\*([^*\n]+)\.\*\*\s*", body, flags=re.MULTILINE)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    first, *equations = re.split(r"^\.\. math::", idea, flags=re.MULTILINE)
    blocks = _paragraphs(first)
    for text in equations:
        equation, after = _equation(text)
        blocks += [equation, *_paragraphs(after)]
    return Page(" ".join(title.split()), tuple(blocks), sections)


def _paragraphs(text):
    return [p.strip("\n") for p in re.split(r"\n\s*\n", text) if p.strip()]


def _equation(text):
    """What a directive holds, and the text after it."""
    lines, inside = text.split("\n"), []
    while lines and (not inside or not lines[0].strip() or lines[0].startswith(" ")):
        inside.append(lines.pop(0))
    held = "\n".join(inside)
    label = re.search(r":label:\s*(\S+)", held)
    tex = re.sub(r":(label|nowrap):.*", "", held).strip()
    return (label[1] if label else "", tex), "\n".join(lines)
