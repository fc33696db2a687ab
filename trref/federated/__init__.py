"""Learning from many clients that keep their data."""
