"""The loss of a Hugging Face model as a `Problem`: what the model itself computes from `labels`, for unequal batches.

The model's own `loss` is no criterion: Gauss-Newton and Fisher matrices need its outputs. So it is called without
labels, and its logits are held against them as the model does. A mean over batches counts what each mean is over.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.checks import one_of, require
from landscape.problem import Problem
from landscape.problem.batch import Criterion
from landscape.problem.batches import Keywords
from landscape.problem.split import Split, split_item

IGNORED = -100  # labels that do not count
HALF = (torch.bfloat16, torch.float16)  # logits are taken to float32, as the models do


def causal_lm_problem(model: nn.Module, loader: Iterable[Any], **settings: Any) -> Problem:
    """Mean cross entropy of the next token, -Σ log p(t_{i+1} | t_1 ... t_i) over the tokens that count.

        problem = causal_lm_problem(AutoModelForCausalLM.from_pretrained(name), loader)

    Equal to the model's own loss, token for token, also where sequences and batches have unequal lengths.

    Args:
        model: of the kind AutoModelForCausalLM, or any that gives `logits` (B, T, V).
        loader: mappings with "input_ids" and what else the model takes; labels (B, T), -100 where a token does not
            count, are shifted here. Without "labels" they are the tokens where "attention_mask" is 1.
        settings: of `Problem`: parameters, dtype, draws.
    Returns:
        A Problem whose units are tokens that count; outputs (B, V, T - 1), targets (B, T - 1).
    Raises:
        ValueError: if the model has an encoder and a decoder, or adds a loss of its routers.
    """
    config = getattr(model, "config", None)
    require(
        not getattr(config, "is_encoder_decoder", False),
        "model must predict the next token, got an encoder with a decoder; pass a Problem with forward= and split=",
    )
    require(
        not getattr(config, "output_router_logits", False),
        "model must have the tokens' loss alone, got output_router_logits=True; set it to False",
    )
    return Problem(model, F.cross_entropy, loader, forward=_next_tokens, split=_shifted, weight=_counted, **settings)


def sequence_classification_problem(model: nn.Module, loader: Iterable[Any], **settings: Any) -> Problem:
    """Mean loss of a classifier of sequences or images, the one that the model chooses by its config.

    `config.problem_type` says which, or where it is None: squared error for one label, else cross entropy.

    Args:
        model: of a kind AutoModelFor...Classification: `logits` (B, num_labels).
        loader: mappings with "labels" (B,), or (B, num_labels) for several at once, and what else the model takes.
        settings: of `Problem`: parameters, dtype, draws, batch_norm.
    Returns:
        A Problem whose units are samples, without those whose label is -100.
    Raises:
        ValueError: if the problem type is unknown; at the first batch if labels are no classes where they should be.
    """
    config: Any = getattr(model, "config", None)
    count = getattr(config, "num_labels", 2)
    kind = getattr(config, "problem_type", None) or ("regression" if count == 1 else "single_label_classification")
    one_of("config.problem_type", kind, tuple(_KINDS))
    criterion, split = _KINDS[kind]
    forward = _scalar if kind == "regression" and count == 1 else _logits
    return Problem(model, criterion, loader, forward=forward, split=split, **settings)


def _logits(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    outputs = model(**inputs)
    logits: Tensor = outputs.logits if hasattr(outputs, "logits") else outputs[0]
    return logits.float() if logits.dtype in HALF else logits


def _next_tokens(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    return _logits(model, inputs)[:, :-1].transpose(1, 2)  # (B, V, T - 1)


def _scalar(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    return _logits(model, inputs).squeeze(-1)  # (B,)


def _shifted(item: Any) -> tuple[Keywords, Tensor]:
    ids: Any = item.get("input_ids") if isinstance(item, Mapping) else None
    require(ids is not None, f'a batch must be a mapping with "input_ids", got {type(item).__name__}; collate it so')
    fields = {name: part for name, part in item.items() if name != "labels"}
    labels, mask = item.get("labels"), item.get("attention_mask")
    if labels is None:
        labels = ids if mask is None else ids.masked_fill(mask == 0, IGNORED)
    return Keywords(fields), labels[:, 1:]


def _counted(_inputs: Any, targets: Tensor) -> Tensor:
    return (targets != IGNORED).sum()


def _classes(item: Any) -> tuple[Any, Any]:
    inputs, labels = split_item(item)
    require(
        not labels.is_floating_point(),
        f'labels must be classes, got {labels.dtype}; set model.config.problem_type = "multi_label_classification" or '
        '"regression"',
    )
    return inputs, labels.reshape(-1)


def _numbers(item: Any) -> tuple[Any, Any]:
    inputs, labels = split_item(item)
    labels = labels if labels.is_floating_point() else labels.float()
    return inputs, labels.squeeze(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels


_KINDS: dict[
    str, tuple[Criterion, Split]
] = {  # of config.problem_type, to the criterion and how a batch is taken apart
    "single_label_classification": (F.cross_entropy, _classes),
    "regression": (F.mse_loss, _numbers),
    "multi_label_classification": (F.binary_cross_entropy_with_logits, split_item),
}
