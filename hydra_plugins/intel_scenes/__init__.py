"""Found by Hydra, which looks for plugins in this namespace alone."""
