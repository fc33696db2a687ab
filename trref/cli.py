"""The command ``trref``: list, check and verify."""

import argparse
import ast
import sys

from trref import __version__, catalog

__all__ = ["main"]

CONFORMS, DEVIATES, COULD_NOT_RUN = 0, 1, 2


def main(arguments=None):
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="trref", description="Reference implementations, and the checks around them.")
    parser.add_argument("--version", action="version", version=f"trref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("list", help="the catalogue: methods and their functions")
    command.add_argument("filter", nargs="?", default="", help="only names that contain this, such as a family")
    command.set_defaults(run=_list)

    command = commands.add_parser("check", help="run the contracts of the catalogued functions")
    command.add_argument("filter", nargs="?", default="", help="only names that contain this, such as ppo")
    command.set_defaults(run=_check)

    command = commands.add_parser("verify", help="compare an implementation with a catalogued function")
    command.add_argument("name", help="such as ppo.clipped_surrogate")
    command.add_argument("implementation", help="file.py:function or package.module:function")
    command.add_argument("--framework", default="auto", choices=("auto", "numpy", "torch"))
    command.add_argument("--map", action="append", default=[], metavar="OURS=THEIRS", help="rename an argument")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="pass a constant")
    command.add_argument("--maximise", action="store_true", help="the implementation returns what is maximised")
    command.set_defaults(run=_verify)

    options = parser.parse_args(arguments)
    return options.run(options)


def _chosen(text):
    return [m for m in catalog.methods() if any(text in f"{r.family}.{r.name}" for r in m.functions)]


def _list(options):
    for method in _chosen(options.filter):
        print(f"{method.family}/{method.slug}: {method.title}" + (f" (arXiv:{method.arxiv})" if method.arxiv else ""))
        for record in method.functions:
            settings = ", ".join(s for s in record.settings if s not in ("default", "probe"))
            more = [f"settings: {settings}"] if settings else []
            more += [f"{len(record.deviations)} deviations"] if record.deviations else []
            print(f"    {record.name:36} {type(record).__name__:10} {'; '.join(more)}".rstrip())
    return 0


def _check(options):
    from trref.checks import check_record

    methods, failed = _chosen(options.filter), 0
    if not methods:
        print(f"no catalogued function contains {options.filter!r}", file=sys.stderr)
        return COULD_NOT_RUN
    for method in methods:
        outcomes = [outcome for record in method.functions for outcome in check_record(record)]
        wrong = [o for o in outcomes if o.error]
        seconds = sum(o.seconds for o in outcomes)
        print(
            f"{'FAIL' if wrong else 'ok':4}  {method.slug:24} {len(outcomes):3} contracts  {seconds:6.2f} s", flush=True
        )
        for outcome in wrong:
            print(f"      {outcome.function}, {outcome.contract}: {outcome.error}")
        failed += bool(wrong)
    print(f"{len(methods)} methods, {failed} of them with failures")
    return 1 if failed else 0


def _pairs(texts, option):
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--{option} expects NAME=VALUE, found {text!r}")
        pairs[name] = value
    return pairs


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _verify(options):
    from trref.conformance import load
    from trref.conformance.verify import verify

    try:
        verdict = verify(
            options.name,
            load.load(options.implementation),
            framework=options.framework,
            names=_pairs(options.map, "map"),
            constants={k: _literal(v) for k, v in _pairs(options.set, "set").items()},
            maximise=options.maximise,
        )
    except (load.LoadError, ValueError) as error:
        print(f"COULD NOT RUN: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    print(verdict)
    return CONFORMS if verdict.conforms else DEVIATES


if __name__ == "__main__":
    sys.exit(main())
