"""Convolutions and linear layers with the cheapest second derivatives."""

from landscape.autograd.fast_layers.layers import BilinearLayers

__all__ = ["BilinearLayers"]
