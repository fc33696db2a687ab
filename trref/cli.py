"""The command ``trref``: list, show, check, verify, identify, export and compare; exercise, assign and grade.

The exit status of each is 0 where all is well, 1 where something deviates, and 2 where nothing could be compared.
"""

import argparse
import ast
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback

from trref import __version__, catalog
from trref.courses import command as courses

__all__ = ["main"]

CONFORMS, DEVIATES, COULD_NOT_RUN = 0, 1, 2
EXIT = {
    "conforms": CONFORMS,
    "conforms except": DEVIATES,
    "deviates": DEVIATES,
    "could not run": COULD_NOT_RUN,
    "not started": COULD_NOT_RUN,
}
BY_SIGNAL = 128  # and the signal's number, as shells have it
BACKENDS = ("numpy", "cupy", "strict")
FRAMEWORKS = ("auto", "numpy", "torch", "jax")
REDUCTIONS = ("seq_mean", "token_mean", "sum", "mean")
MANY = {"action": "append", "default": []}
LONGEST_LIMIT = 86400.0  # seconds


def main(arguments=None):
    """Run the command; return the exit status. Whatever happens, there is a message and no traceback."""
    _open_streams()
    try:
        with _signals():
            options = _parser().parse_args(arguments)
            status = options.run(options)
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # the reader of the output has seen enough
        _discard_output()
        return BY_SIGNAL + signal.SIGPIPE
    except (Exception, RecursionError) as error:
        _discard_output()
        at = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, OSError) and at.filename == __file__:
            return _could_not_run(f"cannot write: {error.strerror}")
        where = f"{os.path.basename(at.filename)}, line {at.lineno}"
        return _could_not_run(
            f"an error of trref itself, please report it: {type(error).__name__}: {error} ({where})"
        )


def _open_streams():
    """Have the three standard streams, whatever is closed, and print what the console lacks as a question mark."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _discard_output():
    """What could not be written is not tried again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals():
    """Where the command is asked to end, by Ctrl-C or otherwise, it ends its processes first."""
    asked, command = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT), os.getpid()

    def end(number, frame):
        if os.getpid() != command:  # a process of a pool, which has inherited this
            os._exit(BY_SIGNAL + number)
        for process in multiprocessing.active_children():
            process.kill()
        sys.exit(BY_SIGNAL + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            n: signal.signal(n, end)
            for n in asked
            if signal.getsignal(n) is not signal.SIG_IGN
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parser():
    parser = argparse.ArgumentParser(
        prog="trref",
        description="Reference implementations, and the checks around them.",
    )
    parser.add_argument("--version", action="version", version=f"trref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser(
        "list", help="the catalogue: methods and their functions"
    )
    command.add_argument(
        "filter",
        nargs="?",
        default="",
        help="only names that contain this, such as a family",
    )
    command.set_defaults(run=_list)

    command = commands.add_parser(
        "check", help="run the contracts of the catalogued functions"
    )
    command.add_argument(
        "filter",
        nargs="?",
        default="",
        help="only names that contain this, such as ppo",
    )
    command.add_argument(
        "--backend",
        default="numpy",
        choices=BACKENDS,
        help="or: does it agree with NumPy's there?",
    )
    command.set_defaults(run=_check)

    command = commands.add_parser(
        "verify", help="compare an implementation with a catalogued function"
    )
    command.add_argument("name", help="such as ppo.clipped_surrogate")
    _implementation_arguments(command)
    command.add_argument(
        "--setting", action="append", metavar="NAME", help="this one alone, of all"
    )
    command.add_argument(
        "--assume",
        default="",
        metavar="NAMES",
        help="what never comes up, of nonempty,groups,tangent,answers,solvable,ties",
    )
    command.add_argument(
        "--errors", action="store_true", help="ask what must be refused, too"
    )
    command.add_argument(
        "--level", type=int, choices=(1, 2, 3), help="as an exercise, stage by stage"
    )
    command.set_defaults(run=_verify)

    command = commands.add_parser(
        "identify",
        help="rank the catalogued functions by agreement with an implementation",
    )
    _implementation_arguments(command)
    command.add_argument(
        "--interface", required=True, help="such as surrogate or token_objective"
    )
    command.set_defaults(run=_identify)

    command = commands.add_parser(
        "export", help="write golden vectors for programs in other languages"
    )
    command.add_argument("name")
    command.add_argument("directory")
    command.set_defaults(run=_export)

    command = commands.add_parser(
        "compare", help="score what another program computed from golden vectors"
    )
    command.add_argument("directory", help="written by trref export")
    command.add_argument("results", help="a .json or .npz file")
    command.set_defaults(run=_compare)

    command = commands.add_parser(
        "show", help="equations, signature, settings, deviations, source of a function"
    )
    command.add_argument("name")
    command.set_defaults(run=_show)

    courses.add_commands(commands)
    return parser


def _chosen(text):
    """Methods of which a function's name contains the text; a slug imports its own module only."""
    exact = [catalog.method(f, s) for f, s in catalog.places() if text == s]
    return exact or [
        m
        for m in catalog.methods()
        if any(text in f"{r.family}.{r.name}" for r in m.functions)
    ]


def _list(options):
    if not (methods := _chosen(options.filter)):
        return _could_not_run(f"no catalogued function contains {options.filter!r}")
    for method in methods:
        print(
            f"{method.family}/{method.slug}: {method.title}"
            + (f" (arXiv:{method.arxiv})" if method.arxiv else "")
        )
        for record in method.functions:
            settings = ", ".join(
                s for s in record.settings if s not in ("default", "probe")
            )
            more = [f"settings: {settings}"] if settings else []
            more += (
                [f"{len(record.deviations)} deviations"] if record.deviations else []
            )
            print(
                f"    {record.name:36} {type(record).__name__:10} {'; '.join(more)}".rstrip()
            )
    return 0


def _check(options):
    from trref.backend import use_backend
    from trref.checks import check_methods

    methods, failed = _chosen(options.filter), 0
    if not methods:
        return _could_not_run(f"no catalogued function contains {options.filter!r}")
    if sys.flags.optimize > 1:
        return _could_not_run("the contracts read docstrings, which Python drops (-OO)")
    try:
        with use_backend(options.backend):
            pass
    except ImportError as error:
        return _could_not_run(error)
    for method, outcomes in check_methods(methods, on=options.backend):
        wrong = [o for o in outcomes if o.error]
        seconds = sum(o.seconds for o in outcomes)
        print(
            f"{'FAIL' if wrong else 'ok':4}  {method.slug:24} {len(outcomes):3} contracts  {seconds:6.2f} s",
            flush=True,
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
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _seconds(text):
    seconds = float(text)
    if not 0 < seconds <= LONGEST_LIMIT:
        raise argparse.ArgumentTypeError(
            f"expected seconds in (0, {LONGEST_LIMIT:g}], found {text}"
        )
    return seconds


def _rows(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number of rows, found {text}")
    return int(text)


def _implementation_arguments(command):
    add = command.add_argument
    add("implementation", help="file.py:function or package.module:function")
    add("--framework", default="auto", choices=FRAMEWORKS)
    add(
        "--map",
        **MANY,
        metavar="OURS=THEIRS",
        help="rename an argument; a,b: two of them",
    )
    add("--set", **MANY, metavar="NAME=VALUE", help="pass a constant to both")
    add("--reference", **MANY, metavar="NAME=VALUE", help="a constant of ours alone")
    add("--theirs", **MANY, metavar="NAME=VALUE", help="a constant of theirs alone")
    add("--init", **MANY, metavar="NAME=VALUE", help="an argument of the class")
    add("--return", metavar="PART", help="the part of its result that counts")
    add("--reduce", choices=REDUCTIONS, help="of terms of tokens that it returns")
    add("--mask", default="float", choices=("float", "bool"), help="what it takes")
    add(
        "--micro-batches", type=_rows, metavar="ROWS", help="call for so many at a time"
    )
    add("--rows", action="store_true", help="it takes padded episodes and a mask")
    add("--maximise", action="store_true", help="it returns what is maximised")
    add("--no-gradient", action="store_true", help="compare values alone")
    add("--backend", default="numpy", choices=BACKENDS, help="where its arrays are")
    add("--limit", type=_seconds, default=10.0, metavar="SECONDS", help="of one call")
    add("--json", metavar="FILE", help="also write the verdict as JSON")


def _called(options):
    from trref.conformance import Options

    def constants(name):
        pairs = _pairs(getattr(options, name), name)
        return {k: _literal(v) for k, v in pairs.items()}

    return Options(
        framework=options.framework,
        names=_pairs(options.map, "map"),
        constants=constants("set"),
        reference=constants("reference"),
        theirs=constants("theirs"),
        init=constants("init"),
        returns=getattr(options, "return"),
        reduce=options.reduce,
        mask=options.mask,
        micro_batches=options.micro_batches,
        rows=options.rows,
        maximise=options.maximise,
        gradient=not options.no_gradient,
        backend=options.backend,
    )


def _could_not_run(error):
    print(f"COULD NOT RUN: {error}", file=sys.stderr)
    return COULD_NOT_RUN


def _report(options, result):
    print(result)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result.as_dict(), file, indent=1)
    return EXIT[result.status]


def _verify(options):
    from trref.conformance import LoadError, verify

    if options.level:
        return courses.verify_at_level(options)
    try:
        verdict = verify(
            options.name,
            options.implementation,
            _called(options),
            settings=options.setting,
            assume=[name for name in options.assume.split(",") if name],
            errors=options.errors,
            limit=options.limit,
            progress=_bar(),
        )
    except (LoadError, ValueError) as error:
        return _could_not_run(error)
    return _report(options, verdict)


def _identify(options):
    from trref.conformance import LoadError, identify

    try:
        found = identify(
            options.implementation,
            options.interface,
            _called(options),
            limit=options.limit,
            progress=_bar(),
        )
    except (LoadError, ValueError) as error:
        return _could_not_run(error)
    return _report(options, found)


def _export(options):
    from trref.conformance import export

    try:
        cases = export(options.name, options.directory)
    except (ValueError, OSError) as error:
        return _could_not_run(error)
    print(f"{cases} cases in {options.directory}: manifest.json, cases.json, cases.npz")
    return CONFORMS


def _compare(options):
    from trref.conformance import compare

    try:
        score = compare(options.directory, options.results)
    except ValueError as error:
        return _could_not_run(error)
    print(score)
    return CONFORMS if score.conforms else DEVIATES


def _show(options):
    import inspect

    from trref.checks import contracts_of

    try:
        record = catalog.find(options.name)
    except ValueError as error:
        return _could_not_run(error)
    method = next(m for m in catalog.methods() if record in m.functions)
    print(
        f"{record.name}{inspect.signature(record.f)}\n{inspect.getsourcefile(inspect.unwrap(record.f))}\n"
    )
    for text in (inspect.getdoc(method.module), inspect.getdoc(record.f)):
        print(f"{text}\n" if text else "")  # Python leaves none under -OO
    print("settings")
    for setting, hyper in record.settings.items():
        print(
            f"    {setting}: {', '.join(f'{k} = {v}' for k, v in hyper.items()) or 'the defaults'}"
        )
    if isinstance(record, catalog.Solver):
        tolerances = ", ".join(
            f"{name} ≤ {bound:.0e}" for name, bound in record.tolerances.items()
        )
        print(f"result: {', '.join(_fields(record))}\ncertificate: {tolerances}")
    for limit in record.limits:
        theirs = f" with {dict(limit.to_hyper)}" if limit.to_hyper else ""
        place = f" ({limit.place})" if limit.place else ""
        print(f"limit: {limit.to}{theirs} under {dict(limit.hyper)}{place}")
    for deviation in record.deviations:
        choice = "; a documented choice" if deviation.documented else ""
        print(
            f"deviation: {deviation.name}: {deviation.computes} (seen: {deviation.seen_in}{choice})"
        )
    print(
        f"checked ({type(record).__name__}): {', '.join(c.__name__ for c in contracts_of(record))}"
    )
    return CONFORMS


def _fields(record):
    """The names of a solver's result."""
    from trref import checks

    case = next(checks.cases(record, sizes=(4,), seeds=(0,)))
    return checks.run(record, case.inputs, case.hyper)._fields


def _bar():
    """A progress bar on a terminal; nothing where the output goes elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done, all_):
        width = 30 * done // all_
        end = "\n" if done == all_ else ""
        print(
            f"\r[{'#' * width}{'.' * (30 - width)}] {done}/{all_}",
            end=end,
            file=sys.stderr,
            flush=True,
        )

    return show


if __name__ == "__main__":
    sys.exit(main())
