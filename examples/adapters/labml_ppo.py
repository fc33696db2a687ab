"""labml's clipped surrogate: a module with other names, and no adapter's arithmetic.

trref verify ppo.clipped_surrogate examples/adapters/labml_ppo.py:Loss.forward \\
    --map log_prob=log_pi --map old_log_prob=sampled_log_pi
"""

from labml_nn.rl.ppo import ClippedPPOLoss


class Loss(ClippedPPOLoss):
    def forward(self, log_pi, sampled_log_pi, advantage, clip=0.2):  # its clip has no default
        return super().forward(log_pi, sampled_log_pi, advantage, clip)
