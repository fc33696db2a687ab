"""What a network's outputs are worth on data unlike those it was trained on."""
