"""A network of blocks, each with a small classifier at its output: whole and local losses, and their derivatives.

A block is a ReLU layer, ``h = max(x W + b, 0)``; the last layer is linear. A local classifier is linear as well. All
losses are *sums* of cross-entropies over the samples, so that rows of derivatives belong to samples.
"""

import dataclasses
from typing import Any, NamedTuple

from trref.backend import xp
from trref.nn.losses import softmax_cross_entropy

__all__ = ["BlockNetwork", "BlockParams", "Pass"]


class BlockParams(NamedTuple):
    """Weights (D, H) and biases (H,) of each layer, the last of which is linear, and of each block's own classifier."""

    layers: list
    heads: list


class Pass(NamedTuple):
    """Of one pass: inputs of the layers, outputs of the blocks, logits, and at the blocks' outputs the derivatives of
    the whole loss (`targets`) and of each local one (`guesses`)."""

    inputs: list
    outputs: list
    logits: Any
    targets: list
    guesses: list


def _cross_entropy(logits, labels):
    """The sum over samples, and its derivative."""
    loss, slope = softmax_cross_entropy(logits, labels)
    return loss * len(labels), slope * len(labels)


@dataclasses.dataclass(frozen=True)
class BlockNetwork:
    """Of the sizes of inputs, blocks and classes."""

    sizes: tuple[int, ...]

    def init(self, rng):
        """Draw parameters."""

        def layer(rows, columns):
            W = rng.standard_normal((rows, columns)) * (2 / rows) ** 0.5
            return xp.asarray(W), xp.zeros(columns)

        *hidden, classes = self.sizes
        pairs = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        return BlockParams(
            [layer(*pair) for pair in pairs], [layer(h, classes) for h in hidden[1:]]
        )

    def forward(self, params, X, labels):
        """One pass forward, and back for the derivatives by the blocks' outputs."""
        inputs, outputs = [X], []
        for W, b in params.layers[:-1]:
            outputs.append(xp.maximum(inputs[-1] @ W + b, 0))
            inputs.append(outputs[-1])
        W, b = params.layers[-1]
        logits = inputs[-1] @ W + b
        signal, targets = _cross_entropy(logits, labels)[1], []
        for (W, _), output in zip(params.layers[:0:-1], outputs[::-1], strict=True):
            targets.insert(0, signal @ W.T)
            signal = targets[0] * (output > 0)
        guesses = []
        for (A, a), output in zip(params.heads, outputs, strict=True):
            guesses.append(_cross_entropy(output @ A + a, labels)[1] @ A.T)
        return Pass(inputs, outputs, logits, targets, guesses)

    def layer_signals(self, params, state, signals):
        """From signals at the blocks' outputs, those before each block's activation."""
        return [
            signal * (output > 0)
            for signal, output in zip(signals, state.outputs, strict=True)
        ]

    def from_block(self, params, block, output, labels):
        """The whole loss, from a block's output on."""
        for W, b in params.layers[block + 1 : -1]:
            output = xp.maximum(output @ W + b, 0)
        W, b = params.layers[-1]
        return _cross_entropy(output @ W + b, labels)[0]

    def local_loss(self, params, block, output, labels):
        """The loss of a block's own classifier."""
        A, a = params.heads[block]
        return _cross_entropy(output @ A + a, labels)[0]

    def push(self, params, state, block, tangent, labels):
        """Push a tangent of a block's output forward: the derivative (N,) of each sample's loss along it."""
        for (W, _), output in zip(
            params.layers[block + 1 : -1], state.outputs[block + 1 :], strict=True
        ):
            tangent = (tangent @ W) * (output > 0)
        slope = _cross_entropy(state.logits, labels)[1]
        return (slope * (tangent @ params.layers[-1][0])).sum(1)
