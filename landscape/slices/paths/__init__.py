"""Paths between networks, and the path of a training."""
