"""Many runs: their names, sampled points, plan and order."""
