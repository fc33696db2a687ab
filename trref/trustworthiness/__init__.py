"""Scores and corrections by which trust is measured: calibration, fairness, refusals, votes, reweighting, answers."""
