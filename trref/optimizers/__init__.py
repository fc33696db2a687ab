"""Update rules for training."""
