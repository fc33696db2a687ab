"""What catalogued functions were called before: old name -> new name. ``CHANGELOG.md`` lists the same."""

RENAMED = {
    "value_trust_region.value_trust_region_step": "gae_value_trust_region.value_trust_region_step",
}
