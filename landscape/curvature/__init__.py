"""Curvature operators over a `Problem`: products with the Hessian, the Gauss-Newton matrix and the Fisher matrix."""

from landscape.curvature.blocks import hessian_blocks
from landscape.curvature.fisher import fisher
from landscape.curvature.ggn import ggn
from landscape.curvature.hessian import hessian
from landscape.curvature.product_memory import product_memory

__all__ = ["fisher", "ggn", "hessian", "hessian_blocks", "product_memory"]
