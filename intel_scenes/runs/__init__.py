"""Experiment trackers beside the record; the module path stands in conf/logger."""
