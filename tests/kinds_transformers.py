"""Networks of the transformers package, some hundred weights each."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from kinds import Network, generic, kind, labels, normal
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY = 6
INSIDE = {"tolerance": 1e-3, "note": "Computes in float32 inside, also where its weights are float64."}


def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(**inputs).logits


def built(name: str, config: str, **settings: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return generic(getattr(transformers, name)(getattr(transformers, config)(**settings)))


def padded(count: int) -> dict[str, Tensor]:
    """Sequences of 5 tokens, every second one of them 3 long."""
    mask = torch.ones(count, 5, dtype=torch.int64)
    mask[::2, 3:] = 0
    return {"input_ids": torch.randint(1, VOCABULARY, (count, 5)) * mask, "attention_mask": mask}


def next_token(z: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(z[:, :-1].flatten(0, 1), t[:, 1:].flatten(), ignore_index=-100)


def counted(_: Any, t: Tensor) -> Tensor:
    return (t[:, 1:] != -100).sum()


def texts(model: nn.Module, *counts: int, step: float = 1e-3) -> Network:
    """Next tokens, where padding has the label -100: batches of unequal numbers of tokens."""
    inputs = [padded(count) for count in counts]
    targets = [torch.where(x["attention_mask"] == 1, x["input_ids"], -100) for x in inputs]
    return Network(model, next_token, list(zip(inputs, targets, strict=True)), logits, counted, step=step)


def images(model: nn.Module) -> Network:
    batches = [({"pixel_values": normal(n, 2, 8, 8)}, labels(n)) for n in (4, 2)]
    return Network(model, F.cross_entropy, batches, logits)


@kind("BERT, padded sequences")
def bert() -> Network:
    shape = {"num_attention_heads": 2, "hidden_size": 4, "num_hidden_layers": 1, "intermediate_size": 3}
    shape |= {"max_position_embeddings": 5, "type_vocab_size": 1, "vocab_size": VOCABULARY, "num_labels": 3}
    model = built("BertForSequenceClassification", "BertConfig", **shape)
    return Network(model, F.cross_entropy, [(padded(n), labels(n)) for n in (5, 3)], logits)


@kind("GPT-2, tied embeddings, labels of −100", note="`weight=` counts the tokens that have a label.")
def gpt2() -> Network:
    shape = {"n_head": 2, "n_embd": 4, "n_layer": 1, "n_inner": 3, "n_positions": 5, "vocab_size": VOCABULARY}
    shape |= {"bos_token_id": 0, "eos_token_id": 0}
    return texts(built("GPT2LMHeadModel", "GPT2Config", **shape), 4, 3)


@kind("T5, encoder and decoder", **INSIDE)
def t5() -> Network:
    shape = {"d_model": 4, "d_kv": 2, "d_ff": 5, "num_layers": 1, "num_heads": 2, "vocab_size": VOCABULARY}
    shape |= {"relative_attention_num_buckets": 4, "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"}
    net = texts(built("T5ForConditionalGeneration", "T5Config", **shape), 3, 2)
    decoded = [(x | {"decoder_input_ids": torch.randint(VOCABULARY, (len(t), 5))}, t) for x, t in net.batches]
    return Network(net.model, net.criterion, decoded, logits, counted, step=1e-2)


@kind("Llama, grouped queries", **INSIDE)
def llama() -> Network:
    shape = {"hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 5}
    return texts(built("LlamaForCausalLM", "LlamaConfig", **shape), 3, 2, step=1e-2)


@kind("ViT")
def vit() -> Network:
    shape = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 5}
    shape |= {"image_size": 8, "patch_size": 4, "num_channels": 2, "num_labels": 3}
    return images(built("ViTForImageClassification", "ViTConfig", **shape))


@kind("ConvNeXt")
def convnext() -> Network:
    shape = {"num_channels": 2, "patch_size": 2, "num_stages": 2, "hidden_sizes": [3, 4], "depths": [1, 1]}
    return images(built("ConvNextForImageClassification", "ConvNextConfig", image_size=8, num_labels=3, **shape))


@kind("Swin, shifted windows")
def swin() -> Network:
    shape = {"image_size": 8, "patch_size": 2, "num_channels": 2, "embed_dim": 4, "depths": [2], "num_heads": [2]}
    return images(built("SwinForImageClassification", "SwinConfig", window_size=2, mlp_ratio=1, num_labels=3, **shape))


def rwkv() -> Network:
    shape = {"vocab_size": VOCABULARY, "context_length": 5, "hidden_size": 4, "num_hidden_layers": 2}
    shape |= {"attention_hidden_size": 4, "intermediate_size": 5, "rescale_every": 1, "use_cache": False}
    return texts(built("RwkvForCausalLM", "RwkvConfig", **shape), 3, 2, step=3e-3)


@kind("RWKV, weights rescaled by an earlier evaluation", **INSIDE)
def rwkv_rescaled() -> Network:
    net = rwkv()
    with torch.no_grad():
        logits(net.model.eval(), net.batches[0][0])  # divides weights by 2 and notes that it did
    return net


@kind(
    "RWKV, weights not yet rescaled",
    **INSIDE
    | {"note": "Its forward pass writes into its weights in evaluation; what it writes is a part of the function."},
)
def rwkv_fresh() -> Network:
    net = rwkv()
    twin = copy.deepcopy(net.model)
    twin.rwkv.config.rescale_every = 0
    return replace(net, plain=(twin, net.forward))
