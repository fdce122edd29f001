"""Diagonal blocks of the Hessian, one per layer: H_ll = ∂²L/∂w_l², the other layers held fixed."""

from landscape.checks import one_of
from landscape.curvature.hessian import Hessian
from landscape.isolation import derivatives_on
from landscape.operator import CurvatureOperator
from landscape.problem import Problem


def hessian_blocks(problem: Problem, by: str = "layer") -> dict[str, CurvatureOperator]:
    """The Hessian's diagonal blocks as operators, in the order of w.

    Args:
        problem: the scalar function.
        by: "layer": a block is all chosen parameters that one module owns itself (its weight and bias).
    Returns:
        Module name ("" for the root) to operator; the blocks' sizes add up to P. A tied parameter belongs to its
        first owner.
    """
    one_of("by", by, ("layer",))
    own = dict(problem.model.named_parameters())
    with derivatives_on():
        shared = problem.constants() | {name: own[name].detach().clone() for name in problem.layout.names}
    return {
        module: Hessian(problem.restricted_to(names), constants=shared) for module, names in layers(problem).items()
    }


def layers(problem: Problem) -> dict[str, list[str]]:
    """Module name to the names of the chosen parameters that it owns itself, in the order of w."""
    groups: dict[str, list[str]] = {}
    for name in problem.layout.names:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    return groups
