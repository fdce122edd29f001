"""Sharpness metrics."""
