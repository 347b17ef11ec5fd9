"""Trackers beside the record; conf/logger names this path."""
