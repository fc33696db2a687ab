"""Estimation from data: hidden directions, penalties, and laws with heavy tails."""
