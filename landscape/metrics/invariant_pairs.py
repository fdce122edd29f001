"""Where a network holds pairs of matrices that matter only through their product G Hᵀ.

G → G A, H → H A⁻ᵀ leaves the function as it is for every invertible A: the query and key of an attention head (through
their scores), its value and output. A pair is two index matrices into the flat vector, w[G] (B, m, r) and w[H] (B, n,
r), B heads at once, so that transposes, slices of fused tensors and biases (a further row) are all a matter of indices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.checks import require
from landscape.problem import Problem
from landscape.vectors import Layout


@dataclass(frozen=True, eq=False)
class Pair:
    """Indices of B pairs of matrices in the flat vector."""

    G: Tensor  # (B, m, r), int64
    H: Tensor  # (B, n, r), int64


def pairs_by_name(problem: Problem, names: Sequence[tuple[str, str]]) -> list[Pair]:
    """Pairs of whole parameters: two matrices are composed, first @ second; of one axis or none, multiplied entrywise.

    Raises:
        ValueError: if a name is no chosen parameter, or the shapes do not fit.
    """
    found = []
    for first, second in names:
        for name in (first, second):
            require(name in problem.layout.names, f"pairs must name parameters of the problem, got {name!r}")
        a, b = positions(problem.layout, first), positions(problem.layout, second)
        if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
            found.append(Pair(a[None], b.T[None]))
        else:
            require(
                a.ndim <= 1 and a.shape == b.shape,
                f"pairs must be matrices that can be multiplied or vectors of one length, got {tuple(a.shape)} "
                f"and {tuple(b.shape)} for {first!r} and {second!r}",
            )
            found.append(Pair(a.reshape(-1, 1, 1), b.reshape(-1, 1, 1)))
    return found


def attention_pairs(problem: Problem) -> list[Pair]:
    """Query-key and value-output pairs of all attention modules whose parameters are all in the problem.

    Known are torch's MultiheadAttention, and modules with linear layers query, key, value (and output.dense beside
    them, as in BERT and ViT) or q_proj, k_proj, v_proj, out_proj (as in CLIP) and a number of heads. Rotary embeddings
    break the query-key invariance; models that have them name their output o_proj and are left alone.
    """
    modules = dict(problem.model.named_modules())
    found: list[Pair] = []
    for name, module in modules.items():
        heads = getattr(module, "num_heads", getattr(module, "num_attention_heads", 0))
        parts = _torch_parts(problem.layout, name, module) or _linear_parts(problem.layout, name, module, modules)
        if isinstance(heads, int) and heads > 0 and parts is not None:
            q, k, v, out = parts  # (d, d_in + 1), rows by head; the output (d_out, d), columns by head
            if q.shape[0] == k.shape[0] == v.shape[0] == out.shape[1] and q.shape[0] % heads == 0:
                found.append(Pair(_by_head(q, heads), _by_head(k, heads)))
                found.append(Pair(_by_head(out.T, heads), _by_head(v, heads)))
    return found


def positions(layout: Layout, name: str) -> Tensor:
    """Indices of a parameter's entries in the flat vector, in its shape."""
    span = layout.span(name)
    return torch.arange(span.start, span.stop).view(layout.shapes[layout.names.index(name)])


Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def _torch_parts(layout: Layout, prefix: str, module: nn.Module) -> Parts | None:
    if not isinstance(module, nn.MultiheadAttention) or module.bias_k is not None:
        return None
    fused = _with_bias(layout, _join(prefix, "in_proj_weight"), _join(prefix, "in_proj_bias"))
    out = _join(prefix, "out_proj.weight")
    if fused is None or out not in layout.names:  # separate widths for keys and values are left alone
        return None
    q, k, v = fused.chunk(3)
    return q, k, v, positions(layout, out)


def _linear_parts(layout: Layout, prefix: str, module: nn.Module, modules: dict[str, nn.Module]) -> Parts | None:
    beside, inside = _join(prefix.rpartition(".")[0], "output.dense"), _join(prefix, "out_proj")
    for inner, outer in ((("query", "key", "value"), beside), (("q_proj", "k_proj", "v_proj"), inside)):
        linear = [_join(prefix, part) for part in inner]
        if all(isinstance(modules.get(name), nn.Linear) for name in [*linear, outer]):
            parts = [_with_bias(layout, f"{name}.weight", f"{name}.bias") for name in linear]
            out = f"{outer}.weight"
            if all(part is not None for part in parts) and out in layout.names:
                q, k, v = parts
                return q, k, v, positions(layout, out)  # type: ignore[return-value]
    return None


def _with_bias(layout: Layout, weight: str, bias: str) -> Tensor | None:
    """Indices (d_out, d_in), or (d_out, d_in + 1) with the bias as last column; None if the weight is not chosen."""
    if weight not in layout.names:
        return None
    return _append(positions(layout, weight), positions(layout, bias) if bias in layout.names else None)


def _append(weight: Tensor, bias: Tensor | None) -> Tensor:
    return weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """(heads · r, m) to (heads, m, r)."""
    return rows.view(heads, -1, rows.shape[1]).transpose(1, 2)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
