import numpy as np


def softmax(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def performance_difference(logits, old_logits, mdp):
    """The return of the new policy, from the old one's advantages. ``mdp(policy)`` has value, advantage and visits."""
    new, old = softmax(logits), mdp(softmax(old_logits))
    visits = mdp(softmax(old_logits)).visits
    return old.expected_return + (visits[:, None] * new * old.advantage).sum()
