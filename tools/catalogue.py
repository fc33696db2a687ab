"""Write the catalogue's table into README.md: .venv/bin/python tools/catalogue.py [--check]."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- catalogue: written by tools/catalogue.py -->", "<!-- end of catalogue -->"


def table():
    """Return the table as Markdown."""
    from trref import catalog

    rows = ["| family | method | functions |", "|---|---|---|"]
    for method in catalog.methods():
        link = f" ([arXiv:{method.arxiv}](https://arxiv.org/abs/{method.arxiv}))" if method.arxiv else ""
        functions = ", ".join(f"`{r.name}`" for r in method.functions)
        rows.append(f"| {method.family} | {method.title}{link} | {functions} |")
    return "\n".join(rows)


def updated(text):
    """Return the README's text with the current table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main():
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    new = updated(text)
    if "--check" in sys.argv:
        return int(new != text)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
