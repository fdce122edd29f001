"""Directions in the space of weights: random, of Adam, of the Hessian, between networks, along a training."""
