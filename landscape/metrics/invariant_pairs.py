"""Where a network holds pairs of matrices that matter only through their product G Hᵀ.

G → G A, H → H A⁻ᵀ leaves the function as it is for every invertible A: the query and key of an attention head (through
their scores), its value and output; the matrices of LoRA (see `low_rank_pairs`). A pair is two index matrices into the
flat vector, w[G] (B, m, r) and w[H] (B, n, r), B heads at once, so that transposes, slices of fused tensors and biases
(a further row) are all a matter of indices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.checks import require
from landscape.metrics.subsets import first_samples
from landscape.problem import Problem
from landscape.vectors import Layout, normal_like

SEPARATE = (  # query, key, value and output: linear layers inside an attention module; ".." is the module around it
    ("query", "key", "value", "../output.dense"),  # BERT
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # CLIP, OPT, Whisper
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # ViT
    ("q_lin", "k_lin", "v_lin", "out_lin"),  # DistilBERT
    ("q", "k", "v", "o"),  # T5
)
FUSED = (  # all three in one, and the output
    ("query_key_value", "output"),  # the bundled ViT
    ("c_attn", "c_proj"),  # GPT-2
    ("qkv", "proj"),  # timm
)
HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads")
SAMPLES = 8  # on which a pair is tried


@dataclass(frozen=True, eq=False)
class Pair:
    """Indices of B pairs of matrices in the flat vector."""

    G: Tensor  # (B, m, r), int64
    H: Tensor  # (B, n, r), int64

    @property
    def entrywise(self) -> bool:
        """Whether these are single numbers, multiplied."""
        return self.G.shape[1:] == self.H.shape[1:] == (1, 1)


def pairs_by_name(problem: Problem, names: Sequence[tuple[str, str]]) -> list[Pair]:
    """Pairs of whole parameters: two matrices are composed, first @ second; of one axis or none, multiplied entrywise.

    Raises:
        ValueError: if a name is no chosen parameter, or the shapes do not fit.
    """
    found = []
    for first, second in names:
        for name in (first, second):
            require(name in problem.layout.names, f"weight_pairs must name parameters of the problem, got {name!r}")
        a, b = positions(problem.layout, first), positions(problem.layout, second)
        if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
            found.append(Pair(a[None], b.T[None]))
        else:
            require(
                a.ndim <= 1 and a.shape == b.shape,
                f"weight_pairs must be matrices that can be multiplied or vectors of one length, got {tuple(a.shape)} "
                f"and {tuple(b.shape)} for {first!r} and {second!r}",
            )
            found.append(Pair(a.reshape(-1, 1, 1), b.reshape(-1, 1, 1)))
    return found


def attention_pairs(problem: Problem) -> list[Pair]:
    """Query-key and value-output pairs of all attention modules whose parameters are all in the problem.

    Known are torch's MultiheadAttention, the bundled ViT, and the layouts of Hugging Face and timm named above. A pair
    is tried on a few samples and left out where the loss changes under G → G A, H → H A⁻ᵀ: rotary embeddings and
    normalised queries break the symmetry of queries and keys. Where heads share keys and values nothing is paired.
    """
    found: list[Pair] = []
    modules = dict(problem.model.named_modules())
    for name, module in modules.items():
        heads = next((getattr(module, key) for key in HEADS if isinstance(getattr(module, key, None), int)), 0)
        parts = _parts(problem.layout, modules, name) if heads > 0 else None
        if parts is not None:
            q, k, v, out = parts  # (d, d_in + 1), rows by head; the output (d_out, d), columns by head
            if q.shape[0] == k.shape[0] == v.shape[0] == out.shape[1] and q.shape[0] % heads == 0:
                found.append(Pair(_by_head(q, heads), _by_head(k, heads)))
                found.append(Pair(_by_head(out.T, heads), _by_head(v, heads)))
    if not found:
        return []
    few = first_samples(problem, SAMPLES)
    return [pair for pair in found if is_invariant(few, pair)]


def positions(layout: Layout, name: str) -> Tensor:
    """Indices of a parameter's entries in the flat vector, in its shape."""
    span = layout.span(name)
    return torch.arange(span.start, span.stop, device="cpu").view(layout.shapes[layout.names.index(name)])


Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def is_invariant(problem: Problem, pair: Pair) -> bool:
    """Whether the loss stays where both matrices are turned, compared with how it moves where one is."""
    w, loss = problem.vector(), float(problem.loss())
    heads, _, r = pair.G.shape
    turn = normal_like(w.new_empty(heads, r, r), torch.Generator().manual_seed(0)) / (2 * r**0.5)
    turn = turn + torch.eye(r, dtype=w.dtype, device=w.device)
    one, both = w.clone(), w.clone()
    one[pair.G] = both[pair.G] = w[pair.G] @ turn
    both[pair.H] = torch.linalg.solve(turn, w[pair.H].transpose(1, 2)).transpose(1, 2)
    # our choice: a symmetry holds to rounding, one that is broken moves the loss about as much as one matrix alone does
    rounding = 100 * torch.finfo(w.dtype).eps * abs(loss)
    return abs(float(problem.loss(both)) - loss) <= 0.01 * abs(float(problem.loss(one)) - loss) + rounding


def _parts(layout: Layout, modules: Mapping[str, nn.Module], prefix: str) -> Parts | None:
    """Index matrices of query, key, value and output; None where the module or one of its parameters is not known."""
    module = modules[prefix]
    if isinstance(module, nn.MultiheadAttention):
        fused = _matrix(layout, _join(prefix, "in_proj_weight"), _join(prefix, "in_proj_bias"))
        known = module.bias_k is None  # no extra row for the keys
        return _whole(_thirds(fused), _matrix(layout, _join(prefix, "out_proj.weight"))) if known else None
    for *inner, outer in SEPARATE:
        parts = _whole(
            [linear(layout, modules, prefix, name) for name in inner],
            linear(layout, modules, prefix, outer, bias=False),
        )
        if parts is not None:
            return parts
    for inner_name, outer in FUSED:
        fused = linear(layout, modules, prefix, inner_name)
        parts = _whole(_thirds(fused), linear(layout, modules, prefix, outer, bias=False))
        if parts is not None:
            return parts
    return None


def _whole(inner: Sequence[Tensor | None], out: Tensor | None) -> Parts | None:
    q, k, v = inner
    return None if q is None or k is None or v is None or out is None else (q, k, v, out)


def _thirds(fused: Tensor | None) -> Sequence[Tensor | None]:
    return [None] * 3 if fused is None or len(fused) % 3 else fused.chunk(3)


def linear(
    layout: Layout, modules: Mapping[str, nn.Module], prefix: str, name: str, bias: bool = True
) -> Tensor | None:
    """Index matrix of a linear layer, or of the Conv1D of Hugging Face, which keeps (d_in, d_out)."""
    around, _, _ = prefix.rpartition(".")
    full = _join(around, name.removeprefix("../")) if name.startswith("../") else _join(prefix, name)
    module = modules.get(full)
    by_input = type(module).__name__ == "Conv1D"
    if not isinstance(module, nn.Linear) and not by_input:
        return None
    return _matrix(layout, f"{full}.weight", f"{full}.bias" if bias else "", transposed=by_input)


def _matrix(layout: Layout, weight: str, bias: str = "", transposed: bool = False) -> Tensor | None:
    """Indices (d_out, d_in), or (d_out, d_in + 1) with the bias as last column; None if the weight is not chosen."""
    if weight not in layout.names:
        return None
    matrix = positions(layout, weight)
    matrix = matrix.T if transposed else matrix
    return torch.cat([matrix, positions(layout, bias)[:, None]], dim=1) if bias in layout.names else matrix


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """(heads · r, m) to (heads, m, r)."""
    return rows.reshape(heads, -1, rows.shape[1]).transpose(1, 2)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
