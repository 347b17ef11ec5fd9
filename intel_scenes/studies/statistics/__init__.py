"""What numbers of runs show: pure functions on arrays, with scipy underneath."""
