"""Speed of the package, compared with plain scripts."""
