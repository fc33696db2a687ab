"""Which examples to train on, and which labels to believe."""
