"""Implementations of the clipped surrogate whose answers are no arrays of real numbers, or more than that."""

import contextlib
import datetime
import os
import sys

import numpy as np


def right(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage).mean()


def with_gradient(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    kept = r * advantage <= np.clip(r, 1 - clip, 1 + clip) * advantage
    return right(log_prob, old_log_prob, advantage, clip), -np.where(kept, r * advantage, 0) / len(r)


class Payload:
    """Unpickled, it writes a file."""

    def __reduce__(self):
        return (open, (os.environ["TRREF_PAYLOAD"], "w"))


class Subclass(np.ndarray):
    """Equal to everything."""

    def __sub__(self, other):
        return np.zeros(self.shape)

    __rsub__ = __sub__


class Array:
    def __init__(self, result):
        self.result = result

    def __array__(self, dtype=None, copy=None):
        return self.result()


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class NotEvenAnException(BaseException):
    pass


def payload(**given):
    return Payload()


def payload_in_an_array(**given):
    return np.array(Payload(), dtype=object)


def payload_as_gradient(**given):
    return right(**given), np.array([Payload()] * 4, dtype=object)


def number_in_an_object_array(**given):
    return np.array(right(**given), dtype=object)


def complex_number(**given):
    return right(**given) + 1j


def complex_gradient(**given):
    return right(**given), np.zeros(4, complex)


def text(**given):
    return str(right(**given))


def bytes_of_it(**given):
    return np.float64(right(**given)).tobytes()


def array_of_texts(**given):
    return np.array([str(right(**given))])


def structure(**given):
    return np.array((right(**given), 1), dtype=[("value", float), ("more", int)])


def masked(**given):
    return np.ma.masked_array(right(**given), mask=False)


def subclass(**given):
    return np.array(0.0).view(Subclass)


def matrix(**given):
    return np.asmatrix([[right(**given)]])


def date(**given):
    return np.datetime64(datetime.date(2000, 1, 1))


def nothing(**given):
    return None


def no_tuple_entries(**given):
    return ()


def ragged(**given):
    return [[0.0], [0.0, 1.0]]


def inside_itself(**given):
    result = [0.0]
    result.append(result)
    return result


def generator(**given):
    return (right(**given) for _ in range(3))


def function(**given):
    return right


def set_of_it(**given):
    return {right(**given)}


def too_large_an_integer(**given):
    return 10**400


def forty_megabytes(**given):
    return np.zeros(5_000_000)


def eight_terabytes(**given):
    return np.broadcast_to(0.0, (1_000_000, 1_000_000))


def array_method_raises(**given):
    return Array(lambda: 1 / 0)


def array_method_gives_objects(**given):
    return Array(lambda: np.array(Payload(), dtype=object))


def raises_without_a_text(**given):
    raise Mute


def raises_ten_megabytes(**given):
    raise ValueError("x" * 10_000_000)


def raises_control_characters(**given):
    raise ValueError("\x1b[2J\x1b]0;title\x07 CONFORMS\r\n\ud800")


def exits(**given):
    sys.exit(0)


def interrupts(**given):
    raise KeyboardInterrupt


def raises_no_exception(**given):
    raise NotEvenAnException("at all")


def recurses(**given):
    return recurses(**given)


def prints_control_characters(**given):
    print("\x1b[2J\x1b[31mCONFORMS\x1b[0m")
    sys.stdout.buffer.write(b"\xff\xfe")
    return with_gradient(**given)


def prints_ten_megabytes(**given):
    print("x" * 10_000_000)
    return with_gradient(**given)


def closes_its_streams(**given):
    sys.stdout.close()
    sys.stderr.close()
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):  # it may have been closed before
            os.close(descriptor)
    return with_gradient(**given)


def replaces_its_streams(**given):
    sys.stdout = sys.stderr = None
    return with_gradient(**given)


def changes_an_input(log_prob, old_log_prob, advantage, clip=0.2):
    value = right(log_prob, old_log_prob, advantage, clip)
    advantage -= advantage.mean()
    return value


def reshapes_an_input(log_prob, old_log_prob, advantage, clip=0.2):
    value = right(log_prob, old_log_prob, advantage, clip)
    advantage.shape = (1, -1)
    return value


def not_a_number(**given):
    return float("nan")


def infinite(**given):
    return float("inf")


def one_too_many(**given):
    return np.array([right(**given)])


def gradient_of_another_shape(**given):
    return right(**given), np.zeros((4, 4))


def two_gradients(**given):
    return right(**given), (np.zeros(4), np.zeros(4)), 3.0


def nothing_at_all(log_prob, old_log_prob, advantage, clip=0.2):
    return np.zeros((0,))


def changes_the_operator(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    """A solver: the operator becomes the identity."""
    matvec.A[...] = np.eye(len(b))
    return b


def any_of_these(which, **given):
    return globals()[which](**given)
