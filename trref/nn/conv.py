"""2-D convolution and pooling on images (N, C, H, W).

The convolution is the cross-correlation that deep learning means by the word. It is written as a sum over the kernel's
offsets, each a product of a shifted image with one matrix (F, C): no copy of patches, and forward and backward pass
read alike.
"""

from trref.backend import xp

__all__ = [
    "average_pool",
    "average_pool_vjp",
    "conv2d",
    "conv2d_vjp",
    "max_pool",
    "max_pool_vjp",
]


def _pad(x, padding):
    return (
        xp.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        if padding
        else x
    )


def _windows(height, width, kernel, stride):
    """Return the output's height and width, and for each offset (i, j) the slices that it reads."""
    kh, kw = kernel
    rows, columns = (height - kh) // stride + 1, (width - kw) // stride + 1
    slices = {
        (i, j): (
            slice(None),
            slice(None),
            slice(i, i + stride * (rows - 1) + 1, stride),
            slice(j, j + stride * (columns - 1) + 1, stride),
        )
        for i in range(kh)
        for j in range(kw)
    }
    return rows, columns, slices


def conv2d(x, weight, bias, *, stride=1, padding=0):
    """Convolve images with a bank of filters.

    Parameters
    ----------
    x : array (N, C, H, W)
    weight : array (F, C, kh, kw)
    bias : array (F,)
    stride, padding : int

    Returns
    -------
    array (N, F, H', W')
    """
    x = _pad(x, padding)
    rows, columns, slices = _windows(*x.shape[2:], weight.shape[2:], stride)
    y = (
        xp.zeros((x.shape[0], weight.shape[0], rows, columns), dtype=x.dtype)
        + bias[:, None, None]
    )
    for (i, j), window in slices.items():
        y += xp.einsum("nchw,fc->nfhw", x[window], weight[:, :, i, j])
    return y


def conv2d_vjp(x, weight, cotangent, *, stride=1, padding=0):
    """Return the derivatives of ``sum(cotangent * conv2d(x, weight, bias))`` by x, weight and bias."""
    padded = _pad(x, padding)
    _, _, slices = _windows(*padded.shape[2:], weight.shape[2:], stride)
    d_x, d_weight = xp.zeros_like(padded), xp.zeros_like(weight)
    for (i, j), window in slices.items():
        d_x[window] += xp.einsum("nfhw,fc->nchw", cotangent, weight[:, :, i, j])
        d_weight[:, :, i, j] = xp.einsum("nfhw,nchw->fc", cotangent, padded[window])
    height, width = x.shape[2:]
    d_x = d_x[:, :, padding : padding + height, padding : padding + width]
    return d_x, d_weight, cotangent.sum((0, 2, 3))


def _blocks(x, size):
    """View (N, C, H, W) as (N, C, H/size, W/size, size²)."""
    N, C, H, W = x.shape
    if H % size or W % size:
        raise ValueError(
            f"x must have height and width divisible by size = {size}, not {(H, W)}"
        )
    blocks = x.reshape(N, C, H // size, size, W // size, size).transpose(
        0, 1, 2, 4, 3, 5
    )
    return blocks.reshape(N, C, H // size, W // size, size * size)


def _unblock(blocks, shape, size):
    N, C, H, W = shape
    return (
        blocks.reshape(N, C, H // size, W // size, size, size)
        .transpose(0, 1, 2, 4, 3, 5)
        .reshape(shape)
    )


def max_pool(x, *, size=2):
    """Largest entry of each size × size block."""
    return _blocks(x, size).max(-1)


def max_pool_vjp(x, cotangent, *, size=2):
    """The cotangent goes to the largest entry of each block, the first one where several are equal."""
    blocks = _blocks(x, size)
    first = (blocks.argmax(-1)[..., None] == xp.arange(size * size)).astype(x.dtype)
    return _unblock(first * cotangent[..., None], x.shape, size)


def average_pool(x, *, size=2):
    """Mean of each size × size block."""
    return _blocks(x, size).mean(-1)


def average_pool_vjp(x, cotangent, *, size=2):
    """The cotangent is shared equally by the entries of each block."""
    shares = cotangent[..., None] / (size * size) + xp.zeros_like(_blocks(x, size))
    return _unblock(shares, x.shape, size)
