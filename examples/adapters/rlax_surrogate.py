"""rlax's clipped surrogate, which takes the ratio itself. Its gradient is that of JAX.

trref verify ppo.clipped_surrogate examples/adapters/rlax_surrogate.py:loss --framework jax --assume ties

On the bounds JAX halves the gradient, also where the loss has no kink: --assume ties leaves that aside.
"""

import jax.numpy as jnp
from rlax._src.policy_gradients import clipped_surrogate_pg_loss


def loss(log_prob, old_log_prob, advantage, clip=0.2):
    return clipped_surrogate_pg_loss(jnp.exp(log_prob - old_log_prob), advantage, clip)
