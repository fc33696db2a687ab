"""Token-level policy optimisation with verifiable rewards: group-relative objectives, clips, divergences."""
