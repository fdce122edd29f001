"""Curvature along a training by the Hugging Face Trainer; needs the extra `huggingface`."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from landscape.checks import require
from landscape.interop.training_callback import TrainingCallback, fixed_part
from landscape.problem import Problem
from landscape.training.tracker import Measurement
from landscape.training.writers import untagged

IGNORED = -100  # of labels


class CurvatureCallback(TrainingCallback, TrainerCallback):  # type: ignore[misc]  # untyped where it is not there
    """λmax, alignment, tr H, surrogate gap and λmax(P⁻¹H) with its threshold, every n steps of a Trainer.

        trainer = Trainer(..., callbacks=[CurvatureCallback(every=100)])     # rows in trainer.state.log_history
        CurvatureCallback(every=100).attach(Trainer(...))                    # and in all that `report_to` names

    The values stand in the log as "curvature/lambda_max" and so on, the series in `rows`; a training that is resumed
    goes on with it, its first measurement from a random start. Nothing that the training uses changes, to the bit. Of
    several processes the first one measures; in mixed precision the function is that in full precision.

    Args:
        problem: the model to its `Problem`. Default: the loss that the model itself returns, without dropout, in the
            mean over `samples` of the training data, or over their tokens where labels are tokens.
        every, samples, rho, trace_matvecs, settings: see `TrainingCallback`.
    Raises:
        ValueError: at the start, with DeepSpeed or FSDP, or without `problem` under label smoothing, or if the
            training data cannot be read by index.
    """

    trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> "CurvatureCallback":
        """Put into this Trainer, and log by its `log`."""
        self.trainer = trainer
        trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, _control: Any, **objects: Any) -> None:
        require(
            not (args.fsdp or args.deepspeed),
            "CurvatureCallback needs whole weights on each device, got DeepSpeed or FSDP; take DDP",
        )
        if not state.is_world_process_zero:
            return
        if state.global_step > 0:
            rows = [_full(log) for log in state.log_history if "curvature/lambda_max" in log]
            self.tracker.load_state_dict(self.tracker.state_dict() | {"rows": rows})
        model = objects["model"]

        def own() -> Problem:
            require(
                args.label_smoothing_factor == 0,
                "the model's own loss has no label smoothing; pass problem=, the model to a Problem",
            )
            return _training_loss(model, fixed_part(objects["train_dataloader"], self.samples))

        self._begin(model, own, objects["optimizer"], state.global_step)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if not state.is_world_process_zero or (values := self._measured(state.global_step)) is None:
            return
        if self.trainer is None:
            state.log_history.append({**values, "epoch": state.epoch, "step": state.global_step})
        else:
            self.trainer.log(values)


def _full(log: Mapping[str, Any]) -> dict[str, Any]:
    """The row that was logged."""
    return dict.fromkeys(field.name for field in fields(Measurement)) | untagged(log) | {"step": log["step"]}


def _training_loss(model: nn.Module, batches: list[tuple[Any, int]]) -> Problem:
    """Mean of the loss that the model returns."""

    def over(data: list[tuple[Any, int]], skipped: int = 0) -> Problem:
        return Problem(
            model,
            lambda loss, _count: loss,
            data,
            forward=_loss,
            weight=lambda batch, count: _units(batch, count, skipped),
        )

    return over(batches, skipped=int(_shifts(over, batches[0])))


def _loss(model: nn.Module, batch: Any) -> Tensor:
    outputs = model(**batch)
    return outputs["loss"] if isinstance(outputs, Mapping) else outputs[0]


def _units(batch: Mapping[str, Any], count: int, skipped: int) -> int:
    """Labels that count, of tokens without the first `skipped` columns; else samples."""
    labels = batch.get("labels")
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        return count
    return int(((labels[:, skipped:] if labels.ndim > 1 else labels) != IGNORED).sum())


def _shifts(over: Any, batch: tuple[Any, int]) -> bool:
    """Whether the first token of a text is nobody's target: then the loss is the same without it."""
    inputs, count = batch
    labels = inputs.get("labels")
    if not isinstance(labels, Tensor) or labels.ndim < 2 or labels.is_floating_point():
        return False
    without = labels.clone()
    without[:, 0] = IGNORED
    return bool(over([(inputs, count)]).loss() == over([({**inputs, "labels": without}, count)]).loss())
