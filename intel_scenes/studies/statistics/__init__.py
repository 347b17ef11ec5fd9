"""Statistics of studies: pure functions of arrays, built on scipy."""
