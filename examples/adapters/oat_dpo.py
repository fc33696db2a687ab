"""oat's loss for DPO: a module, and a mask of pairs.

trref verify dpo.dpo examples/adapters/oat_dpo.py:loss
"""

import torch
from oat.learners.loss import DPOLoss


def loss(chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob, beta=0.1, label_smoothing=0.0):
    pairs = chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob
    return DPOLoss(beta, label_smoothing)(*pairs, torch.ones(len(chosen_log_prob)), None)[0]
