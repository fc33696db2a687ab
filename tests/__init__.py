"""The tests. Helpers are imported from here by their full names, such as `tests.tokens.batches`."""
