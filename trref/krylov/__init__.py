"""Krylov solvers: methods that touch a matrix only through its products with vectors."""
