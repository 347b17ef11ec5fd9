"""Use of finished runs: predict, evaluate, combine."""
