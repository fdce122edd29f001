"""Pairs of low rank found by name: the two matrices of LoRA, and linear layers with nothing between them.

The names are those of PEFT (lora_A, lora_B; lora_embedding_A, lora_embedding_B), of kohya's (lora_down, lora_up) and
plain A and B of one module. As with attention a pair is tried on a few samples, and left out where the loss changes.
Source: Hu et al. 2022, arXiv:2106.09685 (LoRA).
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch
from torch import nn

from landscape.metrics.invariant_pairs import SAMPLES, Pair, attention_pairs, is_invariant, linear, positions
from landscape.metrics.subsets import first_samples
from landscape.problem import Problem
from landscape.vectors import Layout

TWINS = (("A", "B"), ("down", "up"))  # inner and outer factor: the last part of a word of the name
INNER = re.compile(r"(?<![^._])(A|down)(?![^.])")


def pairs_found(problem: Problem, relax: float = 0.0) -> list[Pair]:
    """All pairs that names give away: of attention, then of low rank.

    A pair of low rank with dependent columns, such as LoRA's B = 0 before training, is left out unless relaxed.
    """
    found, others = attention_pairs(problem), [*_by_twin_names(problem.layout), *_by_sequence(problem)]
    if not others:
        return found
    few, w = first_samples(problem, SAMPLES), problem.vector()
    taken = torch.zeros(problem.size, dtype=torch.bool, device="cpu")
    for pair in found:
        taken[pair.G], taken[pair.H] = True, True
    for pair in others:
        sides = (pair.G, pair.H)
        full = relax > 0 or all(_independent(w[side]) for side in sides)
        if full and not any(bool(taken[side].any()) for side in sides) and is_invariant(few, pair):
            found.append(pair)
            taken[pair.G], taken[pair.H] = True, True
    return found


def _by_twin_names(layout: Layout) -> Iterator[Pair]:
    """x B A or x A B, whichever way the shapes can be multiplied."""
    twins = dict(TWINS)
    for name in layout.names:
        for match in INNER.finditer(name):
            other = f"{name[: match.start(1)]}{twins[match[1]]}{name[match.end(1) :]}"
            if other in layout.names:
                inner, outer = positions(layout, name), positions(layout, other)
                if inner.ndim == outer.ndim == 2 and outer.shape[1] == inner.shape[0]:
                    yield Pair(outer[None], inner.T[None])
                elif inner.ndim == outer.ndim == 2 and inner.shape[1] == outer.shape[0]:
                    yield Pair(inner[None], outer.T[None])


def _by_sequence(problem: Problem) -> Iterator[Pair]:
    """Neighbours in a Sequential, the inner one's bias as a further row."""
    modules: Mapping[str, nn.Module] = dict(problem.model.named_modules())
    for prefix, module in modules.items():
        if isinstance(module, nn.Sequential):
            for first, second in pairwise(name for name, _ in module.named_children()):
                inner = linear(problem.layout, modules, prefix, first)
                outer = linear(problem.layout, modules, prefix, second, bias=False)
                if inner is not None and outer is not None and outer.shape[1] == inner.shape[0]:
                    yield Pair(outer[None], inner.T[None])


def _independent(columns: torch.Tensor) -> bool:
    """Whether matrices (B, m, r) have full rank r."""
    return bool((torch.linalg.matrix_rank(columns) == columns.shape[-1]).all())
