"""Sweeps: the names of their runs, sampled points, plan, order and results."""
