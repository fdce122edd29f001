"""One step of a two-pass rule around any torch optimiser."""

from landscape.training.sharpness_aware.step import SharpnessAware

__all__ = ["SharpnessAware"]
