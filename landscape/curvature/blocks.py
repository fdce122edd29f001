"""Diagonal blocks of the Hessian, one per layer, module or name pattern: H_ll = ∂²L/∂w_l², the rest held fixed.

`hessian_blocks` gives one operator a block, to be used alone. `direct_sum` holds the same blocks as one operator,
H_1 ⊕ H_2 ⊕ ..., whose product costs one pass over the data, one first-order graph of a batch and one backward a block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, require
from landscape.curvature.double_backward import require_derivative
from landscape.curvature.hessian import hessian
from landscape.curvature.methods import Manner, Method, Product
from landscape.curvature.over_data import Matrix, OperatorOverData
from landscape.curvature.verification import UNDECIDED, Comparison, compare_gradients, verified
from landscape.linalg.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.problem.batch import Batch
from landscape.problem.cost import GRADIENT, HESSIAN
from landscape.problem.placement import ONE_AT_A_TIME, put_in_place
from landscape.side_effects import derivatives_on, random_source
from landscape.vectors import Block, Layout, flatten

Parts = dict[str, tuple[Tensor, Tensor]]
Grouping = str | Mapping[str, str | Sequence[str]]


def hessian_blocks(problem: Problem, by: Grouping = "layer", *, depth: int = 1) -> dict[str, CurvatureOperator]:
    """The Hessian's diagonal blocks as operators.

    Args:
        problem: the scalar function.
        by: "layer": a block is all chosen parameters that one module owns itself (its weight and bias); "module": those
            of a module and its children; or a mapping of the block's name to parameter names or patterns of them, such
            as {"attention": "*.attn.*", "head": ["head.weight", "head.bias"], "whole": "*"}, where blocks may overlap.
        depth: of "module": how many parts of a parameter's name stand for its module; 2 tells h.0 from h.1.
    Returns:
        Block's name ("" for the root) to operator, in the order of w or of the mapping; within a block always in that
        of w. By layer and by module the sizes add up to P. A tied parameter belongs to its first owner.
    Raises:
        ValueError: if `by` or `depth` is out of range, or a pattern matches no chosen parameter.
    """
    groups = grouped(problem, by, depth=depth)
    if problem.shards is not None:
        return {name: hessian(problem.restricted_to(names)) for name, names in groups.items()}
    with derivatives_on(), ONE_AT_A_TIME:
        own = dict(problem.model.named_parameters())
        shared = problem.constants() | {name: own[name].detach().clone() for name in problem.layout.names}
    blocks = {name: hessian(problem.restricted_to(names), constants=shared) for name, names in groups.items()}
    if len(blocks) > 1:
        union = {name for names in groups.values() for name in names}
        together = _Together(problem.restricted_to([name for name in problem.layout.names if name in union]), shared)
        for block in blocks.values():
            assert isinstance(block, OperatorOverData)  # as the model is not sharded
            block.choice.shared = together
    return dict(blocks)


@dataclass(eq=False)
class _Together:
    """One comparison of a method for all blocks: the Hessian by the parameters of all of them times a random vector.

    It is made on the batch that a block's product is first asked for, within its pass. A block is told how far its own
    rows agree, where they are large enough to tell; else how far all do.

    Attributes:
        problem: of these parameters.
        values: of all parameters, by name.
        found: by what tells a method: the comparison, and by parameter (product, difference) where there are any.
    """

    problem: Problem
    values: Mapping[str, Tensor]
    found: dict[tuple[str, str], tuple[Comparison, Parts]] = field(default_factory=dict)

    def __call__(self, batch: Batch, method: Method) -> Comparison:
        key = method.name, method.about
        if key not in self.found:
            self.found[key] = self._compared(batch, method)
        comparison, parts = self.found[key]
        if comparison.disagreement is None or any(name not in parts for name in batch.layout.names):
            return comparison
        own, difference = (torch.cat([parts[name][i] for name in batch.layout.names]) for i in (0, 1))
        all_of_it = torch.cat([part for _, part in parts.values()]).norm()
        off, size = float((own - difference).norm()), float(difference.norm())
        error = comparison.error * float(all_of_it) / size if size > 0 else UNDECIDED
        return comparison if error >= UNDECIDED else replace(comparison, disagreement=off / size, error=error)

    def _compared(self, batch: Batch, method: Method) -> tuple[Comparison, Parts]:
        layout, dtype = self.problem.layout, self.problem.dtype
        parts: Parts = {}

        def note(seen: Layout, *vectors: Tensor) -> None:
            pieces = zip(*(vector.split(seen.sizes) for vector in vectors), strict=True)
            parts.update(zip(seen.names, pieces, strict=True))

        w = flatten([self.values[name] for name in layout.names])
        v = torch.randn(layout.size, generator=random_source(None), dtype=torch.float64, device="cpu")
        if batch.placement.dtype != batch.dtype:  # left there by a comparison; what is in place is taken for the rest
            with torch.no_grad():
                batch.evaluate(batch.w)
        with put_in_place(self.problem.model, layout, {}, dtype, batch.placement.traits) as placement:
            whole = replace(batch, placement=placement, layout=layout, w=w if dtype is None else w.to(dtype))
            compare = partial(compare_gradients, note=note)
            return verified(whole, v.to(whole.w), None, method.single, compare), parts


def layers(problem: Problem) -> dict[str, list[str]]:
    """Module name to the names of the chosen parameters that it owns itself, in the order of w."""
    return grouped(problem, "layer")


def grouped(problem: Problem, by: Grouping, *, depth: int = 1) -> dict[str, list[str]]:
    """Block's name to the names of its parameters, in the order of w. See `hessian_blocks`."""
    names = problem.layout.names
    if isinstance(by, Mapping):
        require(len(by) > 0, "by must name at least one block, got an empty mapping")
        return {block: _matching(block, patterns, names) for block, patterns in by.items()}
    one_of("by", by, ("layer", "module"))
    integer_in("depth", depth, 1)
    groups: dict[str, list[str]] = {}
    for name in names:
        owner = name.split(".")[:-1]
        groups.setdefault(".".join(owner if by == "layer" else owner[:depth]), []).append(name)
    return groups


def direct_sum(problem: Problem, groups: Mapping[str, Sequence[str]]) -> OperatorOverData:
    """The blocks side by side: (S, S) with S the sum of their sizes, zero between different blocks.

    A block's backward runs through the part of the graph that leads to its own parameters only, and zero columns cost
    nothing, so that a pass costs what is asked of it.
    """
    places = {name: index for index, name in enumerate(problem.layout.names)}
    members = [[places[name] for name in names] for names in groups.values()]
    sizes = [sum(problem.layout.sizes[place] for place in own) for own in members]
    linearise = partial(_linearised, members=members, sizes=sizes)
    methods = [Method("double_backward", linearise, True, GRADIENT, HESSIAN, about="one backward a block")]
    compare = partial(_compare, rows=[_rows(problem.layout, own) for own in members], sizes=sizes)
    return OperatorOverData(problem, Matrix("blocks of the Hessian", methods, compare, sum(sizes)))


def _linearised(batch: Batch, _manner: Manner, *, members: list[list[int]], sizes: list[int]) -> Product:
    leaves = batch.leaves()
    gradients = _gradients(batch.loss_of(leaves), leaves)
    require_derivative([slope.grad_fn for slope in gradients], batch.index)

    def product(block: Block) -> Block:
        image = torch.zeros_like(block)
        for places, rows, out in zip(members, block.split(sizes), image.split(sizes), strict=True):
            own, slopes = [leaves[i] for i in places], [gradients[i] for i in places]
            for column in rows.any(dim=0).nonzero()[:, 0].tolist():
                out[:, column] = _block_product(slopes, own, rows[:, column])
        return image

    return product


def _rows(layout: Layout, places: Sequence[int]) -> Tensor:
    """The entries of w that the parameters at `places` have."""
    spans = [layout.span(layout.names[place]) for place in places]
    return torch.cat([torch.arange(span.start, span.stop, device="cpu") for span in spans])


def _compare(at: Batch, wide: Batch, v: Tensor, image: Tensor, *, rows: list[Tensor], sizes: list[int]) -> Comparison:
    """The first block that v asks of against the whole Hessian's rows and columns of it."""
    own = next(i for i, part in enumerate(v.split(sizes)) if part.any())
    place, begin = rows[own].to(v.device), sum(sizes[:own])
    span = slice(begin, begin + sizes[own])
    whole = torch.zeros(at.layout.size, dtype=v.dtype, device=v.device).index_add(0, place, v[span])
    return compare_gradients(at, wide, whole, image[span], rows=place)


def _gradients(loss: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor]:
    if not loss.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True)


def _block_product(slopes: list[Tensor], own: list[Tensor], v: Tensor) -> Tensor:
    """∂(g_l · v)/∂w_l, (P_l,); a gradient that depends on no parameter adds nothing."""
    cotangents = [piece.view_as(p) for piece, p in zip(v.split([p.numel() for p in own]), own, strict=True)]
    active = [(g, c) for g, c in zip(slopes, cotangents, strict=True) if g.requires_grad]
    if not active:
        return torch.zeros_like(v)
    images = torch.autograd.grad(
        [g for g, _ in active],
        own,
        [c for _, c in active],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([image.reshape(-1) for image in images])


def _matching(block: str, patterns: str | Sequence[str], names: Sequence[str]) -> list[str]:
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in listed:
        matched = any(fnmatchcase(name, pattern) for name in names)
        require(matched, f"block {block!r}: {pattern!r} matches no chosen parameter; there are {list(names)[:5]} ...")
    require(len(listed) > 0, f"block {block!r} must have at least one pattern, got none")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in listed)]
