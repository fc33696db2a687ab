"""What crosses between a verifier and the process of an implementation.

There, a request: a token, a length, and a pickle. Back, an answer: the same token, the length of a head, the head in
JSON, and the raw numbers of the arrays that the head lists. An answer is data and nothing else: whatever an
implementation writes in its place is refused, and never run.
"""

import json
import math
import pickle
import secrets
import struct

import numpy as np

__all__ = ["BrokenProtocol", "pack", "read_request", "request", "unpack"]

TOKEN, LENGTH = 16, struct.Struct("<Q")
LONGEST_HEAD = 1 << 20
MOST_ARRAYS, LONGEST_NAME, MOST_AXES = 1000, 200, 32
DTYPES = {np.dtype(code).str for code in "?bBhHiIlLqQefd"}


class BrokenProtocol(Exception):
    """What came is no answer to what was asked."""


def request(message):
    """Return the token of a request and its bytes."""
    token, data = secrets.token_bytes(TOKEN), pickle.dumps(message)
    return token, token + LENGTH.pack(len(data)) + data


def read_request(source):
    """Return the token and the message of the next request of a file, or None at its end."""
    token, length = source.read(TOKEN), source.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    return token, pickle.loads(source.read(*LENGTH.unpack(length)))


def pack(token, head, arrays):
    """Return the bytes of an answer: a JSON object, and arrays of real numbers by name."""
    arrays = {
        name: np.ascontiguousarray(a, a.dtype.newbyteorder("=")).reshape(a.shape)
        for name, a in arrays.items()
    }
    listed = [[name, a.dtype.str, a.shape] for name, a in arrays.items()]
    text = json.dumps({**head, "arrays": listed}).encode()
    return b"".join(
        [token, LENGTH.pack(len(text)), text, *(a.tobytes() for a in arrays.values())]
    )


def unpack(read, token, most):
    """Return head and arrays of an answer.

    Parameters
    ----------
    read : callable
        ``read(count) -> bytes``.
    token : bytes
        Of the request that is answered.
    most : int
        Bytes of all arrays together.

    Raises
    ------
    BrokenProtocol
    """
    if read(TOKEN) != token:
        raise BrokenProtocol("what came does not answer the request")
    (length,) = LENGTH.unpack(read(LENGTH.size))
    if length > LONGEST_HEAD:
        raise BrokenProtocol(f"a head of {length} bytes")
    try:
        head = json.loads(read(length))
        listed = [_array(*entry) for entry in head.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BrokenProtocol("the head of an answer cannot be read") from error
    names = {name for name, _, _ in listed}
    size = sum(
        np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in listed
    )
    if len(names) < len(listed) or len(listed) > MOST_ARRAYS or size > most:
        raise BrokenProtocol(
            f"{len(listed)} arrays of {size} bytes, of which {len(names)} have a name of their own"
        )
    arrays = {}
    for name, dtype, shape in listed:
        data = read(np.dtype(dtype).itemsize * math.prod(shape))
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return head, arrays


def _array(name, dtype, shape):
    """An entry of the head's list, or ValueError."""
    right = isinstance(name, str) and len(name) <= LONGEST_NAME and dtype in DTYPES
    if (
        not right
        or len(shape) > MOST_AXES
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise ValueError
    return name, dtype, tuple(shape)
