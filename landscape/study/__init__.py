"""Many checkpoints: does a metric follow the generalisation gap?"""
