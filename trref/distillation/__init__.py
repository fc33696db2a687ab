"""Learning from demonstrations and from teachers: what the policy itself did not sample, or others judge."""
