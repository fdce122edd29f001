"""Convolutions and linear layers with the cheapest second derivatives."""

from landscape.bilinear.layers import BilinearLayers

__all__ = ["BilinearLayers"]
