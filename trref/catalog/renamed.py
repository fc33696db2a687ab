"""What catalogued functions were called before: old name -> new name. ``CHANGELOG.md`` lists the same."""

RENAMED = {
    "value_trust_region.value_trust_region_step": "gae_value_trust_region.value_trust_region_step",
    "policy_improvement.expected_return": "trpo_improvement.expected_return",
    "policy_improvement.surrogate_return": "trpo_improvement.surrogate_return",
    "policy_improvement.performance_difference": "trpo_improvement.performance_difference",
    "policy_improvement.lower_bound": "trpo_improvement.lower_bound",
    "policy_improvement.theoretical_policy_iteration": "trpo_improvement.theoretical_policy_iteration",
    "ppo_penalty.adapt_beta": "ppo_penalty.adapt_kl_weight",
}
