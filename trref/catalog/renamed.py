"""What catalogued functions were called before: old name -> new name. ``CHANGELOG.md`` lists the same."""

RENAMED = {
    "apc.apc": "fiberpo_censoring.apc",
    "apc.tv_trpo_sample": "fiberpo_censoring.tv_trpo_sample",
    "apc.penalised_radius": "fiberpo_censoring.penalised_radius",
    "confidence_regulariser.selective_regulariser": "ace_regulariser.selective_regulariser",
    "confidence_regulariser.decomposition": "ace_regulariser.decomposition",
    "conflict_tokens.front_conflicts": "gtpo_conflicts.front_conflicts",
    "conflict_tokens.back_conflicts": "gtpo_conflicts.back_conflicts",
    "conflict_tokens.conflict_weights": "gtpo_conflicts.conflict_weights",
    "value_trust_region.value_trust_region_step": "gae_value_trust_region.value_trust_region_step",
    "policy_improvement.expected_return": "trpo_improvement.expected_return",
    "policy_improvement.surrogate_return": "trpo_improvement.surrogate_return",
    "policy_improvement.performance_difference": "trpo_improvement.performance_difference",
    "policy_improvement.lower_bound": "trpo_improvement.lower_bound",
    "policy_improvement.theoretical_policy_iteration": "trpo_improvement.theoretical_policy_iteration",
    "ppo_penalty.adapt_beta": "ppo_penalty.adapt_kl_weight",
    "kl_projection.project_kl": "troll_projection.project_kl",
    "kl_projection.multiplier": "troll_projection.multiplier",
}
