"""How fast the package is, beside what one would write by hand."""
