"""Hostile and broken implementations: none forges a verdict, hangs, leaves a process, or ends in a traceback.

The implementations are in the files of ``hostile/``.
"""

import dataclasses
import pathlib
import re
import signal
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from trref import catalog
from trref.conformance import LoadError, Options, protocol, trials, verify, worker

verify_module = sys.modules["trref.conformance.verify"]

FILES = pathlib.Path(__file__).parent / "hostile"
NAME = "ppo.clipped_surrogate"
COULD_NOT_RUN = "could not run"

ANSWERS = {
    "right": ("conforms", ""),
    "payload": (COULD_NOT_RUN, "returned Payload, expected an array"),
    "payload_in_an_array": (COULD_NOT_RUN, "returned an array of objects"),
    "payload_as_gradient": (COULD_NOT_RUN, "returned an array of objects"),
    "number_in_an_object_array": (COULD_NOT_RUN, "returned an array of objects"),
    "complex_number": (COULD_NOT_RUN, "returned an array of complex numbers"),
    "complex_gradient": (COULD_NOT_RUN, "returned an array of complex numbers"),
    "text": (COULD_NOT_RUN, "returned a text"),
    "bytes_of_it": (COULD_NOT_RUN, "returned a text"),
    "array_of_texts": (COULD_NOT_RUN, "returned an array of texts"),
    "structure": (COULD_NOT_RUN, "returned an array of structures"),
    "masked": (COULD_NOT_RUN, "returned an array of the class MaskedArray"),
    "subclass": (COULD_NOT_RUN, "returned an array of the class Subclass"),
    "matrix": (COULD_NOT_RUN, "returned an array of the class matrix"),
    "date": (COULD_NOT_RUN, "returned an array of datetime64"),
    "nothing": (COULD_NOT_RUN, "returned NoneType"),
    "no_tuple_entries": ("deviates", "value has shape (0,), expected ()"),
    "ragged": (COULD_NOT_RUN, "returned a list that is no array"),
    "inside_itself": (COULD_NOT_RUN, "returned a list that is no array"),
    "generator": (COULD_NOT_RUN, "returned generator"),
    "function": (COULD_NOT_RUN, "returned function"),
    "set_of_it": (COULD_NOT_RUN, "returned set"),
    "too_large_an_integer": (COULD_NOT_RUN, "returned an array of objects"),
    "forty_megabytes": (COULD_NOT_RUN, "returned 40,000,000 bytes, at most"),
    "eight_terabytes": (COULD_NOT_RUN, "returned 8,000,000,000,000 bytes, at most"),
    "array_method_raises": (COULD_NOT_RUN, "raised ZeroDivisionError"),
    "array_method_gives_objects": (COULD_NOT_RUN, "returned an array of objects"),
    "raises_without_a_text": (COULD_NOT_RUN, "raised an exception that cannot be printed"),
    "raises_ten_megabytes": (COULD_NOT_RUN, "raised ValueError: xxx"),
    "raises_control_characters": (COULD_NOT_RUN, "raised ValueError: [2J ]0;title CONFORMS ("),
    "exits": (COULD_NOT_RUN, "raised SystemExit"),
    "interrupts": (COULD_NOT_RUN, "raised KeyboardInterrupt"),
    "raises_no_exception": (COULD_NOT_RUN, "raised NotEvenAnException: at all"),
    "recurses": (COULD_NOT_RUN, "raised RecursionError"),
    "prints_control_characters": ("conforms", "prints while it computes: '[2J [31mCONFORMS [0m"),
    "prints_ten_megabytes": ("conforms", "prints while it computes: 'xxx"),
    "closes_its_streams": ("conforms", ""),
    "replaces_its_streams": ("conforms", ""),
    "changes_an_input": ("deviates", "changed its input advantage in place"),
    "reshapes_an_input": ("deviates", "changed its input advantage in place"),
    "not_a_number": ("deviates", "value is NaN"),
    "infinite": ("deviates", "value is inf"),
    "one_too_many": ("deviates", "value has shape (1,), expected ()"),
    "gradient_of_another_shape": ("deviates", "gradient by log_prob has shape (4, 4)"),
    "two_gradients": ("deviates", "gradient by log_prob has shape (2, 4)"),
    "nothing_at_all": ("deviates", "value has shape (0,), expected ()"),
}

PROCESSES = {
    "ends_quietly": (COULD_NOT_RUN, "ended its process (exit status 0)"),
    "ends_with_a_status": (COULD_NOT_RUN, "ended its process (exit status 3); on stderr: a last word"),
    "aborts": (COULD_NOT_RUN, "ended its process (signal SIGABRT)"),
    "segmentation_fault": (COULD_NOT_RUN, "ended its process (signal SIGSEGV)"),
    "kills_itself": (COULD_NOT_RUN, "ended its process (signal SIGKILL)"),
    "stops_itself": (COULD_NOT_RUN, "did not return within 0.3 s"),
    "kills_its_parent": (COULD_NOT_RUN, "ended its process (signal SIGKILL)"),
    "kills_its_group": (COULD_NOT_RUN, "ended its process (signal SIGKILL)"),
    "sleeps": (COULD_NOT_RUN, "did not return within 0.3 s"),
    "holds_the_lock": (COULD_NOT_RUN, "did not return within 0.3 s"),
    "ignores_signals": (COULD_NOT_RUN, "did not return within 0.3 s"),
    "starts_a_process_a_call": ("conforms", ""),
    "starts_a_session_a_call": ("conforms", ""),
    "starts_a_daemon": ("conforms", ""),
    "starts_a_daemon_and_kills_its_parent": (COULD_NOT_RUN, "did not return within 0.3 s"),
    "starts_a_daemon_and_dies": (COULD_NOT_RUN, "ended its process (exit status 1)"),
    "splits": ("conforms", ""),
    "leaves_a_thread": ("conforms", ""),
    "leaves_a_pool": ("conforms", ""),
    "forks_without_end": ("conforms", ""),
    "floods_stderr": (COULD_NOT_RUN, "did not return within 0.3 s; on stderr: xxx"),
    "reads_its_input": ("conforms", ""),
}

FORGERIES = {
    "writes_noise": (COULD_NOT_RUN, "broke the protocol: what came does not answer"),
    "writes_a_pickle": (COULD_NOT_RUN, "broke the protocol: what came does not answer"),
    "writes_a_head_without_end": (COULD_NOT_RUN, "broke the protocol: a head of 1152921504606846976 bytes"),
    "writes_no_json": (COULD_NOT_RUN, "broke the protocol: the head of an answer cannot be read"),
    "writes_deep_json": (COULD_NOT_RUN, "broke the protocol: the head of an answer cannot be read"),
    "writes_a_list": (COULD_NOT_RUN, "broke the protocol: the head of an answer cannot be read"),
    "writes_without_fields": (COULD_NOT_RUN, "broke the protocol"),
    "writes_fields_of_other_types": (COULD_NOT_RUN, "broke the protocol"),
    "writes_objects": (COULD_NOT_RUN, "broke the protocol: the head of an answer cannot be read"),
    "writes_an_endless_array": (COULD_NOT_RUN, "broke the protocol: 1 arrays of 8796093022208 bytes"),
    "writes_a_negative_shape": (COULD_NOT_RUN, "broke the protocol: the head of an answer cannot be read"),
    "writes_a_name_twice": (COULD_NOT_RUN, "broke the protocol: 2 arrays of 0 bytes, of which 1"),
    "writes_drop_by_drop": (COULD_NOT_RUN, "did not return within 0.3 s"),
    "answers_twice": ("deviates", "value is 0, expected"),
    "closes_everything": (COULD_NOT_RUN, "ended its process (exit status 70); on stderr: it can no longer answer"),
    "leads_everything_nowhere": (COULD_NOT_RUN, "it can no longer answer"),
    "breaks_json": (COULD_NOT_RUN, "it can no longer answer: ZeroDivisionError"),
    "breaks_numpy": (COULD_NOT_RUN, ""),
    "breaks_python": (COULD_NOT_RUN, ""),
    "forgets_its_modules": (COULD_NOT_RUN, ""),
    "waits_for_an_alarm": (COULD_NOT_RUN, "raised ZeroDivisionError"),
    "allows_no_files": ("conforms", ""),
    "looks_for_the_answers": ("deviates", "value is 0, expected"),
    "changes_the_verifier": ("deviates", "value is 0, expected"),
}


@pytest.fixture(autouse=True)
def one_loss(monkeypatch):
    """Enough to see that a call is lost."""
    monkeypatch.setattr(verify_module, "MOST_LOSSES", 1)


def _ask(file, function, limit=0.3, **choice):
    choice = {"seeds": (0,), "sizes": (4,), "explain": False, **choice}
    return verify(NAME, f"{FILES / file}.py:{function}", limit=limit, **choice)


def _check(verdict, status, message):
    text = str(verdict)
    assert verdict.status == status and message in text, text
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}, "control characters"
    assert "Traceback" not in text and len(text) < 6000


@pytest.fixture
def mark(monkeypatch):
    """A text in the environment of all that is started meanwhile; none of these may be left."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("TRREF_TEST", mark)
    yield mark
    assert not _marked(mark), "a process is left"


def _marked(mark):
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if mark.encode() in text and not ended:
            found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def answering(tmp_path_factory):
    """One process for all implementations of answers.py, and one case that they are asked."""
    written = tmp_path_factory.mktemp("hostile") / "written"
    child = worker.Child(f"{FILES}/answers.py:any_of_these", Options())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRREF_PAYLOAD", str(written))
        child.setup()
        record = catalog.find(NAME)
        yield record, next(trials.trials(record, {"default": {}}, {}, seeds=(0,), sizes=(4,))), child, written
    child.close()


@pytest.mark.parametrize("function", ANSWERS)
def test_answers(function, answering):
    record, trial, child, written = answering
    asked = dataclasses.replace(trial, hyper={**trial.hyper, "which": function})
    answer = trials.ask(child, record, asked)
    failure = trials.judge(record, trial, answer)
    status, message = ANSWERS[function]
    found = "conforms" if not failure else COULD_NOT_RUN if failure.part == "error" else "deviates"
    assert found == status and not answer.lost, str(failure)
    if status == "conforms":
        assert answer.printed.startswith(message.removeprefix("prints while it computes: '"))
    else:
        assert message.removesuffix(" (") in str(failure)
    assert str(failure).isprintable() and answer.printed.isprintable() and len(str(failure)) < 1000
    assert not written.exists(), "code of the implementation has run here"


def test_a_whole_verdict():
    _check(_ask("answers", "payload", limit=10), *ANSWERS["payload"])
    _check(_ask("answers", "prints_control_characters", limit=10), *ANSWERS["prints_control_characters"])


def test_an_operator_that_is_changed():
    verdict = verify("cg.cg", f"{FILES}/answers.py:changes_the_operator", explain=False, seeds=(0,), sizes=(4,))
    _check(verdict, "deviates", "changed its input matvec in place")


@pytest.mark.skipif(not pathlib.Path("/proc").is_dir(), reason="processes are counted by /proc")
@pytest.mark.parametrize("function", PROCESSES)
def test_processes(function, mark):
    _check(_ask("processes", function), *PROCESSES[function])


@pytest.mark.parametrize("function", FORGERIES)
def test_forgeries(function, mark):
    _check(_ask("forgeries", function), *FORGERIES[function])


def test_an_alarm_that_rings_in_a_call_or_later(mark):
    """Which call it ends, or whether it ends one, is the processor's business; no answer differs for it."""
    verdict = _ask("forgeries", "sets_an_alarm")
    assert verdict.conforms == (not verdict.failures)
    for failure in verdict.failures:
        assert failure.part in ("error", "lost") and "ZeroDivisionError" in failure.error, str(verdict)


IN_PROCESS = [f for f in ANSWERS if f not in ("interrupts", "raises_no_exception", "closes_its_streams")]


@pytest.mark.parametrize("function", IN_PROCESS)
def test_in_this_process(function, tmp_path, monkeypatch):
    """The same checks; but what is no Exception is raised here, and the process's streams are the process's."""
    monkeypatch.setenv("TRREF_PAYLOAD", str(tmp_path / "written"))
    space = {}
    exec(compile((FILES / "answers.py").read_text(), "answers.py", "exec"), space)
    verdict = verify(NAME, space[function], explain=False, seeds=(0,), sizes=(4,))
    _check(verdict, *ANSWERS[function])


# ---- the protocol


def _read(data):
    left = bytearray(data)

    def read(count):
        taken = bytes(left[:count])
        del left[:count]
        return taken

    return read


@pytest.mark.parametrize("dtype", sorted(protocol.DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_arrays_cross_as_they_are(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)
    data = protocol.pack(b"t" * 16, {"error": None}, {"a": array, "b": array.T, "c": array[::-1] if shape else array})
    head, found = protocol.unpack(_read(data), b"t" * 16, 1 << 20)
    assert head == {"error": None} and list(found) == ["a", "b", "c"]
    for name, wanted in (("a", array), ("b", array.T), ("c", array[::-1] if shape else array)):
        assert found[name].dtype == wanted.dtype and np.array_equal(found[name], wanted)


def test_a_token_is_asked_for():
    data = protocol.pack(b"t" * 16, {}, {})
    with pytest.raises(protocol.BrokenProtocol, match="does not answer"):
        protocol.unpack(_read(data), b"u" * 16, 1 << 20)
    assert protocol.request(1)[0] != protocol.request(1)[0]


# ---- the end of the command


@pytest.mark.skipif(not pathlib.Path("/proc").is_dir(), reason="processes are counted by /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_nothing_outlives_the_command(number, mark):
    command = ["verify", NAME, f"{FILES}/processes.py:ignores_signals", "--limit", "60"]
    running = subprocess.Popen([sys.executable, "-m", "trref", *command], stderr=subprocess.PIPE, text=True)
    while len(_marked(mark)) < 3:  # the command, the supervisor, the worker
        assert running.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == (-number if number == signal.SIGKILL else 128 + number) and not said
    for _ in range(100 * (number == signal.SIGKILL)):  # without the command the supervisor ends what it started
        if not _marked(mark):
            break
        time.sleep(0.1)


# ---- what is imported


def _module(folder, text, name="mine.py"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


RIGHT = (FILES / "forgeries.py").read_text().split("\n\n\n")[1]
LOSS = f"import numpy as np\n\n{RIGHT}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\nsys.exit(0)", "importing .* failed: SystemExit: 0"),
        ("import os\nos.write(2, b'no licence\\n')\nos._exit(4)", r"ended its process \(exit status 4\).*no licence"),
        ("import ctypes\nctypes.string_at(0)", r"ended its process \(signal SIGSEGV\)"),
        ("raise KeyboardInterrupt", "failed: KeyboardInterrupt"),
        ("def loss(:", "failed: SyntaxError"),
        (b"loss = \x00", "failed: (SyntaxError|ValueError)"),
        (b"loss = '\xff'", "failed: SyntaxError"),
        ("loss = 3", "has no function 'loss'; it has none"),
        ("class M(type):\n    def __call__(c): 1 / 0\nclass loss(metaclass=M): pass", "nothing takes|cannot be called"),
        ("class Evil:\n    def __getattribute__(s, n): 1 / 0\nthing = Evil()\n" + LOSS.replace("right", "loss"), None),
    ],
)
def test_modules_that_cannot_be_imported(text, message, tmp_path):
    target = f"{_module(tmp_path, text)}:loss"
    if message is None:
        assert verify(NAME, target, seeds=(0,), sizes=(4,)).conforms
        return
    with pytest.raises(LoadError) as caught:
        verify(NAME, target)
    assert re.search(message, str(caught.value)) and "\n" not in str(caught.value), str(caught.value)


def test_a_module_that_never_ends(tmp_path, monkeypatch, mark):
    monkeypatch.setattr(worker, "IMPORT_LIMIT", 1.0)
    with pytest.raises(LoadError, match="did not return within 1 s"):
        verify(NAME, f"{_module(tmp_path, 'while True: pass')}:loss")


IMPORTS = {
    "dataclasses with postponed annotations": "from __future__ import annotations\nimport dataclasses, typing\n"
    "@dataclasses.dataclass\nclass Clip:\n    low: float = 0.2\nassert typing.get_type_hints(Clip)\n",
    "itself, by its name": "import sys\nassert sys.modules['mine'] is sys.modules[__name__]\n",
    "what lies beside it": "import beside\nassert beside.here\n",
    "the standard library, whatever lies beside it": "import random, json\nassert random.random and json.dumps\n",
    "what was installed, unless it lies beside it": "import pytest\nassert pytest.mine\n",
    "its own arguments": "import argparse, sys\nargparse.ArgumentParser().parse_args()\nassert 'mine' in sys.argv[0]\n",
}


@pytest.mark.parametrize("what", IMPORTS)
def test_a_module_imports(what, tmp_path, monkeypatch):
    for name, text in (("beside", "here = 1"), ("random", "1 / 0"), ("json", "1 / 0"), ("pytest", "mine = 1")):
        _module(tmp_path, text, f"{name}.py")
    path = _module(tmp_path, IMPORTS[what] + LOSS)
    monkeypatch.chdir(tmp_path)
    assert verify(NAME, f"{path}:right", seeds=(0,), sizes=(4,)).conforms
    assert verify(NAME, "mine:right", seeds=(0,), sizes=(4,)).conforms


def test_a_module_of_a_package(tmp_path):
    _module(tmp_path, "", "package/__init__.py")
    _module(tmp_path, "", "package/inner/__init__.py")
    _module(tmp_path, LOSS, "package/pieces.py")
    path = _module(
        tmp_path,
        "from ..pieces import right\nfrom . import __name__ as n\nassert n == 'package.inner'\n",
        "package/inner/mine.py",
    )
    assert verify(NAME, f"{path}:right", seeds=(0,), sizes=(4,)).conforms


@pytest.mark.parametrize("name", ["random.py", "numpy.py", "my-loss.py", "trref.py"])
def test_a_module_of_any_name(name, tmp_path):
    path = _module(tmp_path, f"import random\nassert random.random\n{LOSS}", name)
    assert verify(NAME, f"{path}:right", seeds=(0,), sizes=(4,)).conforms


def test_processes_of_a_module(tmp_path, mark):
    text = "\nimport multiprocessing\n\ndef square(x): return x * x\n\ndef loss(**given):\n"
    text += (
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n        assert pool.map(square, [2]) == [4]\n"
    )
    path = _module(tmp_path, LOSS + text + "    return right(**given)\n")
    child = worker.Child(f"{path}:loss", Options(), limit=60.0)
    try:
        child.setup()
        given = {name: np.zeros(2) for name in ("log_prob", "old_log_prob", "advantage")}
        answer = child.call(worker.Request("objective", given, {"hyper": {"clip": 0.2}, "wrt": ("log_prob",)}))
    finally:
        child.close()
    assert answer.error is None and answer.parts["value"] == 0.0
