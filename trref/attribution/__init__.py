"""Which parts of an input a network looks at."""
