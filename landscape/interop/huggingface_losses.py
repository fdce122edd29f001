"""The loss of a Hugging Face model as a `Problem`: what the model itself computes from `labels`, for unequal batches.

The model's own `loss` is no criterion: Gauss-Newton and Fisher matrices need its outputs. So it is called without
labels, and its logits are held against them as the model does. A mean over batches counts what each mean is over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.autograd.precision import Autocast, autocast_now
from landscape.checks import integer_in, one_of, require
from landscape.problem import Problem
from landscape.problem.batch import Criterion
from landscape.problem.batches import Keywords
from landscape.problem.hidden_states import HALF, HiddenStates, InPieces, in_full
from landscape.problem.split import Split, split_item
from landscape.problem.traits import BatchError

IGNORED = -100  # labels that do not count


def causal_lm_problem(
    model: nn.Module, loader: Iterable[Any], *, tokens_at_once: int | None = None, **settings: Any
) -> Problem:
    """Mean cross entropy of the next token, -Σ log p(t_{i+1} | t_1 ... t_i) over the tokens that count.

        problem = causal_lm_problem(AutoModelForCausalLM.from_pretrained(name), loader)

    Equal to the model's own loss, token for token, also where sequences and batches have unequal lengths.

    Args:
        model: of the kind AutoModelForCausalLM, or any that gives `logits` (B, T, V).
        loader: mappings with "input_ids" and what else the model takes; labels (B, T), -100 where a token does not
            count, are shifted here. Without "labels" they are the tokens where "attention_mask" is 1.
        tokens_at_once: of at most so many tokens logits are held at a time, whichever derivative is taken; default all.
            The numbers are the same. Forward over reverse, and what looks at outputs itself, is refused.
        settings: of `Problem`: parameters, dtype, draws, recompute.
    Returns:
        A Problem whose units are tokens that count; outputs (B, V, T - 1), targets (B, T - 1).
    Raises:
        ValueError: if the model has an encoder and a decoder, or adds a loss of its routers; with tokens_at_once if its
            logits are not its output embedding of hidden states alone (soft caps, scales), or it is sharded.
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
    if tokens_at_once is None:
        return Problem(
            model, F.cross_entropy, loader, forward=_next_tokens, split=_shifted, weight=_counted, **settings
        )
    integer_in("tokens_at_once", tokens_at_once, 1)
    require(
        hasattr(model, "get_output_embeddings"),
        "tokens_at_once needs a model with get_output_embeddings(), which makes the logits; leave it out",
    )
    criterion = InPieces(F.cross_entropy, tokens_at_once, _counts)
    problem = Problem(model, criterion, loader, forward=_before_logits, split=_shifted, weight=_counted, **settings)
    require(problem.shards is None, "tokens_at_once is for a model on one process, got a sharded one; leave it out")
    return problem


def sequence_classification_problem(model: nn.Module, loader: Iterable[Any], **settings: Any) -> Problem:
    """Mean loss of a classifier of sequences or images, the one that the model chooses by its config.

    `config.problem_type` says which, or where it is None: squared error for one label, else cross entropy.

    Args:
        model: of a kind AutoModelFor...Classification: `logits` (B, num_labels).
        loader: mappings with "labels" (B,), or (B, num_labels) for several at once, and what else the model takes.
        settings: of `Problem`: parameters, dtype, draws, batch_norm, recompute.
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
    return in_full(outputs.logits if hasattr(outputs, "logits") else outputs[0])


def _next_tokens(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    return _logits(model, inputs)[:, :-1].transpose(1, 2)  # (B, V, T - 1)


def _before_logits(model: Any, inputs: Mapping[str, Any]) -> HiddenStates:
    """The states that logits are made of; nothing may be done to logits afterwards, as numbers in their place show."""
    head, found, rows, casts = model.get_output_embeddings(), list[Tensor](), list[Tensor](), list[Autocast]()

    def note(_head: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        found.extend([*args, *kwargs.values()])  # as they are before hooks of the user's own

    def numbers(states: Tensor) -> Tensor:
        casts.append(autocast_now(states.device.type))
        tokens, classes = states.shape[:-1], len(head.weight)
        dtype = torch.float32 if states.dtype in HALF else states.dtype  # of which in_full() makes no copy
        row = torch.linspace(-50, 50, tokens.numel() + classes - 1, dtype=dtype, device=states.device)
        rows.append(row)
        return row.unfold(0, classes, 1).unflatten(0, tokens)  # (B, T, V) in the memory of B T + V

    with _called_instead(head, numbers, note):
        seen = _logits(model, inputs)
    once = len(found) == len(rows) == 1 and found[0].ndim == 3
    if not once or not torch.equal(seen, numbers(found[0])) or not torch.equal(rows[0], rows[1]):  # written into
        raise BatchError(
            "tokens_at_once needs logits that are get_output_embeddings() of hidden states (B, T, D) and nothing else, "
            f"got a {type(model).__name__} that does more (soft caps, scales); leave it out"
        )
    if casts[0] != casts[1]:
        raise BatchError(
            f"tokens_at_once needs logits outside of the model's own autocast, got a {type(model).__name__} that makes "
            "them inside; put autocast around the call, or leave it out"
        )
    return HiddenStates(found[0][:, :-1], head, dict(head.named_parameters()))


@contextmanager
def _called_instead(module: Any, forward: Callable[[Tensor], Tensor], before: Callable[..., None]) -> Iterator[None]:
    own = vars(module).get("forward")  # of this one alone, as offloading has it
    hook = module.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
    module.forward = forward
    try:
        yield
    finally:
        hook.remove()
        if own is None:
            del module.forward
        else:
            module.forward = own


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
    return _counts(targets).sum()


def _counts(targets: Tensor) -> Tensor:
    return targets != IGNORED


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
