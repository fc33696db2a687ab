"""Calls that are wrong: static tools find those that are marked with the rule's name, and nothing else."""

import numpy as np

from trref.krylov.cg import cg
from trref.optimizers import adam
from trref.policy.ppo import clipped_surrogate, total_objective
from trref.sharpness.sam import perturbed_gradient
from trref.tokens.grpo import group_advantage

x = np.zeros(3)

clipped_surrogate(x, x, x, clip="0.2")  # reportArgumentType
clipped_surrogate.unchecked(x, x, x, clip="0.2")  # reportArgumentType
clipped_surrogate(x, x)  # reportCallIssue
clipped_surrogate(x, x, x, 0.2)  # reportCallIssue
clipped_surrogate(x, x, x, epsilon=0.2)  # reportCallIssue
clipped_surrogate(x, x, advantages=x)  # reportCallIssue
clipped_surrogate([0.0], [0.0], [1.0])  # reportArgumentType
loss, gradient, more = clipped_surrogate(x, x, x)  # reportAssignmentType
print(total_objective(x, x, x, x, x, x)[1].values)  # reportAttributeAccessIssue
group_advantage(x, x, std="samples")  # reportArgumentType
perturbed_gradient(0.1, x)  # reportArgumentType
cg(np.eye(3), x)  # reportArgumentType
cg(lambda v: v, x, max_iter=2.5)  # reportArgumentType
adam.update(x, x, adam.init([x]))  # reportArgumentType
