"""Comparison of the runs of a study, from their records alone."""
