"""Many runs: their names, points, plan and order."""
