"""Implementations that write where the answers go, or break what writes them."""

import builtins
import gc
import json
import os
import pickle
import resource
import signal
import stat
import struct
import sys
import time

import numpy as np


def right(log_prob, old_log_prob, advantage, clip=0.2):
    r, n = np.exp(log_prob - old_log_prob), len(log_prob)
    plain, clipped = r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage
    return -np.minimum(plain, clipped).mean(), -np.where(plain <= clipped, plain, 0) / n


def _connections():
    found = []
    for descriptor in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                found.append(descriptor)
        except OSError:
            pass
    return found


def _token():
    """Of the request that is being answered, found in the frames of those who call."""
    frame = sys._getframe()
    while "token" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["token"]


def _write(data):
    for descriptor in _connections():
        os.write(descriptor, data)


def _head(text):
    _write(_token() + struct.pack("<Q", len(text)) + text)


HEAD = {"error": None, "printed": "", "changed": []}


def writes_noise(**given):
    _write(b"CONFORMS" * 100)
    return right(**given)


def writes_a_pickle(**given):
    _write(pickle.dumps({"value": 0.0}))
    return right(**given)


def writes_a_head_without_end(**given):
    _write(_token() + struct.pack("<Q", 2**60))
    return right(**given)


def writes_no_json(**given):
    _head(b"\x80\x04N.")
    return right(**given)


def writes_deep_json(**given):
    _head(b"[" * 100_000 + b"]" * 100_000)
    return right(**given)


def writes_a_list(**given):
    _head(b"[1, 2, 3]")
    return right(**given)


def writes_without_fields(**given):
    _head(json.dumps({"arrays": []}).encode())
    return right(**given)


def writes_fields_of_other_types(**given):
    _head(json.dumps({"arrays": [], "error": 3, "printed": [], "changed": 1}).encode())
    return right(**given)


def writes_objects(**given):
    _head(json.dumps({**HEAD, "arrays": [["value", "|O", []]]}).encode() + b"\0" * 8)
    return right(**given)


def writes_an_endless_array(**given):
    _head(json.dumps({**HEAD, "arrays": [["value", "<f8", [2**40]]]}).encode())
    return right(**given)


def writes_a_negative_shape(**given):
    _head(json.dumps({**HEAD, "arrays": [["value", "<f8", [-1]]]}).encode())
    return right(**given)


def writes_a_name_twice(**given):
    _head(json.dumps({**HEAD, "arrays": [["value", "<f8", [0]]] * 2}).encode())
    return right(**given)


def writes_drop_by_drop(**given):
    _write(_token() + struct.pack("<Q", 10_000))
    while True:
        _write(b" ")
        time.sleep(0.01)


def answers_twice(**given):
    text = json.dumps({**HEAD, "arrays": [["value", "<f8", []]]}).encode()
    _write(_token() + struct.pack("<Q", len(text)) + text + struct.pack("<d", 0.0))
    return right(**given)


def closes_everything(**given):
    os.closerange(3, 256)
    return right(**given)


def leads_everything_nowhere(**given):
    for descriptor in _connections():
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    return right(**given)


def breaks_json(**given):
    json.dumps = lambda *_: 1 / 0
    return right(**given)


def breaks_numpy(**given):
    value = right(**given)
    np.array = np.ascontiguousarray = lambda *_, **__: "nothing"
    return value


def breaks_python(**given):
    value = right(**given)
    for name in ("len", "isinstance", "getattr", "sum", "tuple", "type"):
        delattr(builtins, name)
    return value


def forgets_its_modules(**given):
    value = right(**given)
    sys.modules.clear()
    return value


def allows_no_files(**given):
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    return right(**given)


def sets_an_alarm(**given):
    """It rings once, here or later."""
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 1e-3)
    return right(**given)


def waits_for_an_alarm(**given):
    sets_an_alarm(**given)
    signal.pause()


def looks_for_the_answers(log_prob, old_log_prob, advantage, clip=0.2):
    """Returns what it finds of the reference's numbers: nothing is there."""
    for thing in gc.get_objects():
        if type(thing).__name__ == "Trial":
            return thing.expected["value"]
        if type(thing) is dict and "expected" in thing and isinstance(thing["expected"], dict):
            return thing["expected"]["value"]
    return 0.0


def changes_the_verifier(**given):
    import trref.conformance.load as load

    load._array = lambda value: np.zeros(())
    load.Implementation.objective = lambda *_, **__: {"value": np.zeros(())}
    return 0.0
