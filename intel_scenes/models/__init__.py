"""Backbones, their training step, parameter groups and schedules."""
