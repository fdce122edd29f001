"""Where attention looks: softmax(q kᵀ / √d + mask) of every module that calls `scaled_dot_product_attention`.

A weight on a token is the share of it in what the query is given. In a vision transformer the class token's row is a
map over the patches. Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548 (attention maps of networks trained by SAM).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.checks import require
from landscape.metrics.hooks import CallsSeen, running
from landscape.side_effects import training_flags_kept


def attention_weights(model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
    """Name of the module to its weights, (batch, heads, queries, keys), rows sum to 1; one forward pass in eval mode.

    Args:
        model: the network; modules in the order of their first call, of one that runs several times the last weights.
        inputs: of its forward pass.
    Raises:
        ValueError: if the network does not call scaled_dot_product_attention, as where another library computes
            attention by itself (in Hugging Face's: load with attn_implementation="sdpa").
    """
    found: dict[str, Tensor] = {}
    with training_flags_kept(model), torch.no_grad(), running(model) as stack:

        def seen(func: Any, args: tuple[Any, ...], given: Mapping[str, Any], _result: Any) -> None:
            if func is F.scaled_dot_product_attention:
                found[stack[-1] if stack else ""] = _weights_of(args, given)

        model.eval()
        with CallsSeen(seen):
            model(*inputs)
    require(len(found) > 0, "the network must call torch's scaled_dot_product_attention, got no call")
    return found


def _weights_of(args: tuple[Any, ...], given: Mapping[str, Any]) -> Tensor:
    """Of a call: attention to the unit vectors as values gives its own weights."""
    named = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False))
    call = {**named, **given, "dropout_p": 0.0}
    key = call["key"]
    units = torch.eye(key.shape[-2], dtype=key.dtype, device=key.device).expand(*key.shape[:-1], -1)
    return F.scaled_dot_product_attention(**{**call, "value": units})
