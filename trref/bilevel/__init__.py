"""Problems of two levels: an outer loss at the solution of an inner problem."""
