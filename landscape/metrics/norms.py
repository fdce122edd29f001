"""Norms of the weights, of each layer, and of the way that training went.

Products over layers are given as logarithms, log Π |W|² = Σ log |W|²: in deep networks they would over- or underflow.
A layer's matrix is its weight with the axes after the first joined. A convolution is also a matrix on whole images:
convolution="operator" takes the spectral norm of that one, which image size, stride and padding enter.
Source: Jiang et al. 2020, "Fantastic generalization measures and where to find them", arXiv:1912.02178.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from landscape.checks import one_of, require, vector_like
from landscape.linalg import top_eigenpairs
from landscape.linalg.operator import CurvatureOperator
from landscape.metrics.hooks import first_inputs
from landscape.metrics.metric import measured
from landscape.problem import Problem
from landscape.problem.batch_norm import inference_flags
from landscape.side_effects import derivatives_on
from landscape.storage.results import Estimate

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@measured
def weight_norm(problem: Problem, *, generator: torch.Generator | None = None) -> Estimate:
    """|w|, the Euclidean norm of the parameters."""
    return Estimate.exact(float(problem.vector().double().norm()))


@measured
def distance_from_initialisation(
    problem: Problem, *, initial: Tensor, generator: torch.Generator | None = None
) -> Estimate:
    """|w − w₀| from the vector `initial` (P,), such as `problem.vector()` before training.

    Raises:
        ValueError: if `initial` has another shape, dtype or device than w.
    """
    w = problem.vector()
    vector_like("initial", initial, w)
    return Estimate.exact(float((w - initial).double().norm()))


@measured
def frobenius_norms(problem: Problem, *, generator: torch.Generator | None = None) -> Estimate:
    """Log of the product over layers of |W|_F², W a layer's weights; of the Hessian: `frobenius_norm`.

    Returns:
        Estimate with stderr 0; details: sum of the |W|_F², layers.
    Raises:
        ValueError: if no layer has a weight matrix.
    """
    return _summary(torch.stack([weight.double().norm().square().cpu() for weight in _weights(problem).values()]))


@measured
def spectral_norms(
    problem: Problem, *, convolution: str = "operator", generator: torch.Generator | None = None
) -> Estimate:
    """Log of the product over layers of |W|₂², a bound of the network's Lipschitz constant for 1-Lipschitz activations.

    Args:
        problem: the scalar function; its first sample tells the size of the convolutions' images.
        convolution: "operator" (of the map of images, by Lanczos) | "matrix" (of the reshaped kernel).
        generator: for the Lanczos start; default seed 0.
    Returns:
        Estimate; stderr is the residual bound of Lanczos, 0 for matrices. Details: sum of the |W|₂², layers, and
        stable_rank, Σ |W|_F² / |W|₂² of the reshaped matrices.
    Raises:
        ValueError: if no layer has a weight matrix, or `convolution` is neither.
    """
    one_of("convolution", convolution, ("operator", "matrix"))
    weights = _weights(problem)
    matrices = {name: _top_of_matrix(weight) for name, weight in weights.items()}
    frobenius = torch.stack([weight.double().norm().square().cpu() for weight in weights.values()])
    ranks = frobenius / torch.stack(list(matrices.values())).clamp(min=torch.finfo(torch.float64).tiny)
    found, bound = dict(matrices), 0.0
    if convolution == "operator":
        modules = {
            f"{n}.weight".removeprefix("."): m for n, m in problem.model.named_modules() if isinstance(m, CONVOLUTIONS)
        }
        images = first_inputs(problem, {name: module for name, module in modules.items() if name in found})
        with inference_flags(problem.model.modules(), batch_statistics=False):
            for name, image in images.items():
                found[name], residual = _top_of_images(modules[name], image, generator)
                bound += float(residual / found[name].clamp(min=torch.finfo(torch.float64).tiny))
    return _summary(torch.stack(list(found.values())), bound, {"stable_rank": float(ranks.sum())})


def _summary(squares: Tensor, bound: float = 0.0, details: Mapping[str, float] | None = None) -> Estimate:
    logs = squares.clamp(min=torch.finfo(squares.dtype).tiny).log()
    found = {"sum": float(squares.sum()), "layers": float(len(squares))}
    return Estimate(value=logs.sum(), stderr=torch.full_like(logs.sum(), bound), details=found | dict(details or {}))


def _weights(problem: Problem) -> dict[str, Tensor]:
    """Weights with two or more axes, of every layer; not of embeddings, which select rows and multiply nothing."""
    found: dict[str, Tensor] = {}
    with inference_flags(problem.model.modules(), batch_statistics=False):  # a spectral norm's iteration stands still
        for prefix, module in problem.model.named_modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                continue
            own = [name for name, _ in module.named_parameters(recurse=False) if "weight" in name]
            for name in dict.fromkeys(["weight", *own]):
                weight = getattr(module, name, None)
                if isinstance(weight, Tensor) and weight.ndim > 1 and weight.numel() > 0:
                    found[f"{prefix}.{name}".removeprefix(".")] = weight
    require(len(found) > 0, "the model must have a layer with a weight matrix, got none")
    return {name: weight.detach() for name, weight in found.items()}


def _top_of_matrix(weight: Tensor) -> Tensor:
    """|W|₂² by the smaller Gram matrix, ()."""
    matrix = weight.double().flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram)[-1].clamp(min=0).cpu()


def _top_of_images(module: nn.Module, image: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """The squared spectral norm of a convolution on images of that size, and its residual, () each."""
    pairs = top_eigenpairs(_Gram(module, image), 1, which="LA", tol=1e-3, generator=generator, progress=False)
    return pairs.values[0].double().clamp(min=0).cpu(), pairs.residuals[0].double().cpu()


class _Gram(CurvatureOperator):
    """AᵀA of the linear part A of a module on one sample's inputs of that shape."""

    def __init__(self, module: nn.Module, image: Tensor) -> None:
        super().__init__(image.numel(), image.dtype, image.device)
        self.module, self.image = module, image

    def _product(self, block: Tensor) -> Tensor:
        images = block.T.reshape(-1, *self.image.shape).detach().requires_grad_()
        with derivatives_on():  # not torch.func, whose first call takes a second
            moved = self.module(images) - self.module(torch.zeros_like(images))
            return torch.autograd.grad(moved, images, moved.detach())[0].flatten(1).T
