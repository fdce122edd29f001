import pytest
import torch
from cases import everything, normal, same
from torch import nn
from torch.nn import functional as F

from landscape.metrics import attention_weights
from landscape.models import build


def net():
    return build("vit", {"dim": 8, "depth": 2, "heads": 2}, 0).double()


def test_weights_of_a_vision_transformer_are_those_of_the_formula():
    model, x = net(), normal(3, 1, 8, 8)
    before = everything(model)
    found = attention_weights(model, x)
    assert list(found) == ["blocks.0.attention.1", "blocks.1.attention.1"]
    with torch.no_grad():
        tokens = torch.cat([model.class_token.expand(3, -1, -1), model.patches(x)], 1) + model.positions
        for number, block in enumerate(model.blocks):
            q, k, _ = block.attention[1].query_key_value(block.attention[0](tokens)).unflatten(2, (3, 2, 4)).unbind(2)
            by_hand = torch.einsum("bqhd,bkhd->bhqk", q, k).div(4**0.5).softmax(-1)
            assert torch.allclose(found[f"blocks.{number}.attention.1"], by_hand, rtol=1e-12, atol=1e-14)
            tokens = block(tokens)
    assert same(everything(model), before)


class Own(nn.Module):
    """Masks, a scale of its own, keyword arguments, dropout, shared heads."""

    def forward(self, q, k, mask):
        F.scaled_dot_product_attention(q, k[:, :1], k[:, :1], dropout_p=0.5, scale=0.3, attn_mask=mask, enable_gqa=True)
        return q


def test_what_a_call_asks_for_is_in_its_weights_but_for_dropout():
    q, k, mask = normal(2, 4, 3, 5), normal(2, 2, 6, 5, seed=1), normal(3, 6, seed=2) > 0
    mask[:, 0] = True  # no row without a key
    scores = (0.3 * q @ k[:, :1].transpose(2, 3)).masked_fill(~mask, -torch.inf)
    (found,) = attention_weights(Own(), q, k, mask).values()
    assert torch.allclose(found, scores.softmax(-1), rtol=1e-12, atol=0)


def test_a_causal_network_looks_back_only_and_training_flags_stay():
    model = build("char_lm", {"dim": 8, "depth": 1, "heads": 2, "classes": 5, "length": 4}, 0).train()
    (found,) = attention_weights(model, torch.arange(4)[None]).values()
    assert torch.equal(found, found.tril())
    assert torch.allclose(found.sum(-1), torch.ones(()), rtol=1e-6)
    assert model.training


def test_a_network_without_attention_is_refused():
    with pytest.raises(ValueError, match="must call torch's scaled_dot_product_attention, got no call"):
        attention_weights(nn.Linear(2, 2), torch.zeros(1, 2))
