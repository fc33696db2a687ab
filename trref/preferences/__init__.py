"""Learning from preferences: comparisons of answers, labels of single ones, no reward model."""
