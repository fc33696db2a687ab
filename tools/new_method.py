"""Start a method: python3 tools/new_method.py SLUG FAMILY --record objective.

Writes the module, its file in the catalogue, its test, its tutorial and its entry in the bibliography, from
tools/templates. What it writes is a small working method of that record type that keeps every contract, so that each
step of replacing it can be checked: `trref check SLUG`.
"""

import argparse
import pathlib
import subprocess
import sys

import _environment

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "tools" / "templates"
RECORDS = tuple(sorted(path.name for path in TEMPLATES.iterdir() if path.is_dir()))

CITATION = """@misc{KEY,
  author = {Author, First and Author, Second},
  title = {Title of the Paper},
  year = {2025},
  eprint = {0000.00000},
  archiveprefix = {arXiv}
}
"""


def families():
    """The names in `trref.catalog.FAMILIES`, which cannot be imported before NumPy is there."""
    text = (ROOT / "trref" / "catalog" / "__init__.py").read_text(encoding="utf-8")
    return " ".join(text.partition("FAMILIES = (")[2].partition(")")[0].replace('"', " ").split()).split()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slug", help="such as my_method: the name of the module")
    parser.add_argument("family", choices=families())
    parser.add_argument("--record", choices=RECORDS, required=True, help="what its first function is")
    parser.add_argument("--key", help="of its bibliography entry, such as author2025word; the slug by default")
    options = parser.parse_args()
    slug, family = options.slug, options.family
    key = options.key or slug.replace("_", "")
    if not slug.isidentifier() or slug != slug.lower():
        parser.error(f"the slug must be a lower-case Python name, not {slug!r}")
    names = {"SLUG": slug, "FAMILY": family, "KEY": key}
    names |= {"LABEL": slug.replace("_", "-"), "NAME": slug.replace("_", " ")}
    files = {
        ROOT / "trref" / family / f"{slug}.py": "module",
        ROOT / "trref" / "catalog" / family / f"{slug}.py": "catalog",
        ROOT / "tests" / family / f"test_{slug}.py": "test",
        ROOT / "tutorials" / family / f"plot_{slug}.py": "tutorial",
    }
    if existing := [str(path) for path in files if path.exists()]:
        sys.exit(f"already there: {', '.join(existing)}")
    texts = {p: (TEMPLATES / options.record / f"{t}.txt").read_text(encoding="utf-8") for p, t in files.items()}
    bibliography = ROOT / "trref" / "references" / f"{key}.bib"
    if not bibliography.exists():
        texts[bibliography] = CITATION
    packages = {"trref": f"The family {family}: say in one line what belongs here."}
    packages["trref/catalog"] = f"What is known of the methods of `trref.{family}`."
    for folder, words in packages.items():
        if not (ROOT / folder / family / "__init__.py").exists():
            texts[ROOT / folder / family / "__init__.py"] = f'"""{words}"""\n'
    for path, text in texts.items():
        for placeholder, name in names.items():
            text = text.replace(placeholder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    _style([str(path) for path in files])
    print(f"next: trref check {slug}; then docs/add_a_method.rst, from 'The module' on")


def _style(files):
    """The names decide the order of imports and the breaks of lines; without ruff they stay as they are."""
    python = _environment.python() if _environment.python().exists() else sys.executable
    for arguments in (["check", "--select", "I", "--fix"], ["format"]):
        command = [python, "-m", "ruff", *arguments, "--quiet", *files]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)


if __name__ == "__main__":
    main()
