"""Rank statistics over networks: correlation, intervals, tests, and what chance gives."""
