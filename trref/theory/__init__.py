"""What can be proved about training: step sizes, noise, gradients that are not the whole gradient."""
