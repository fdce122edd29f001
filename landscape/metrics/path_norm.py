"""Path norm: the root of the sum over all paths from inputs to outputs of the product of their squared weights.

One forward pass with squared weights and inputs of 1 adds the paths up: Σ_k f_{w²}(1)_k. Paths from biases count too.
Batch normalisation on stored statistics is a scale and a shift of each channel, squared as such.
Source: Neyshabur et al. 2015, arXiv:1503.00036; in this form Jiang et al. 2020, arXiv:1912.02178.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from landscape.checks import require
from landscape.metrics.metric import measured
from landscape.metrics.subsets import first_samples
from landscape.problem import Problem
from landscape.storage.results import Estimate


@measured
def path_norm(problem: Problem, *, generator: torch.Generator | None = None) -> Estimate:
    """(Σ_k f_{w²}(1)_k)^½ of a network of linear layers, convolutions, batch norms and ReLUs.

    It does not change when a layer is multiplied by c and the next divided by it. Activations must be as ReLU is, the
    identity on what is not negative; that cannot be seen from here.

    Args:
        problem: the scalar function; its first inputs, a tensor of numbers, give the shape.
        generator: not used; for the common signature.
    Returns:
        Estimate with stderr 0, computed in float64.
    Raises:
        ValueError: if a module with parameters is of another kind, or the inputs are no tensor of numbers.
    """
    squared = copy.deepcopy(problem.model).double().eval()
    with torch.no_grad():
        for name, module in squared.named_modules():
            _fold(name, module)
        for p in squared.parameters():  # a tied one once
            p.square_()
        inputs = first_samples(problem, 1).batches_with_units()[0][0]
        require(
            isinstance(inputs, Tensor) and inputs.is_floating_point(),
            f"the path norm needs inputs in one tensor of numbers, got {type(inputs).__name__}",
        )
        outputs = problem.forward(squared, torch.ones_like(inputs, dtype=torch.float64))
    return Estimate.exact(float(outputs.sum().sqrt()))


def _fold(name: str, module: nn.Module) -> None:
    """Make scale and shift of a batch norm its parameters; refuse what the path norm is not defined for."""
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
        scale = own.get("weight", 1.0) * (module.running_var + module.eps).rsqrt()
        shift = own.get("bias", 0.0) - scale * module.running_mean
        module.weight, module.bias = nn.Parameter(scale), nn.Parameter(shift)
        module.running_mean.zero_()
        module.running_var.fill_(1 - module.eps)
        return
    require(
        not own or isinstance(module, nn.Linear | _ConvNd),
        f"the path norm needs linear layers, convolutions and batch norms only, got {type(module).__name__} {name!r}",
    )
