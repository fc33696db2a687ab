"""What the tests of problems share: the strict device gives the host's numbers, in the dtype of the inputs."""

import numpy as np

import trref
from trref import strict
from trref.checks import as_dtype, convert, flatten
from trref.checks.cases import to_device


def same_on_strict(f, *inputs, waits=False):
    """Call ``f(*inputs)`` in float32 on the host and on the strict device: bits and dtypes must agree.

    Unless it is said that it `waits`, nothing may make the host wait for the device.
    """
    inputs = convert(inputs, as_dtype("float32"))
    host = flatten(f(*inputs))
    assert host and all(x.dtype.kind != "f" or x.dtype == np.float32 for _, x in host), "float32 is kept"
    with trref.use_backend("strict"):
        moved = to_device(inputs)
        with strict.synchronisations() as count:
            result = f(*moved)
        assert waits or count() == 0, "it waits for the device"
        device = flatten(result)
    for (name, a), (_, b) in zip(host, device, strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b), name
