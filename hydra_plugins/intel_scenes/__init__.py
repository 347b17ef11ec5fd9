"""Plugins for Hydra, which looks for them only in this namespace."""
