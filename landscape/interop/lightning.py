"""Curvature along a training by Lightning; needs the extra `lightning`.

    trainer = lightning.Trainer(callbacks=[CurvatureCallback(every=100)], ...)

A sharpness-aware optimiser needs no callback: `configure_optimizers` returns an `ls.SharpnessAware`.
"""

import inspect
from typing import Any

from torch import Tensor

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError as error:
    raise ImportError(
        "landscape.interop.lightning needs lightning; pip install 'landscape-toolkit[lightning]'"
    ) from error

from landscape.checks import require
from landscape.interop.training_callback import TrainingCallback, fixed_part
from landscape.problem import Problem


class CurvatureCallback(TrainingCallback, Callback):  # type: ignore[misc]  # untyped where lightning is not there
    """λmax, alignment, tr H, surrogate gap and λmax(P⁻¹H) with its threshold, every n steps of a Lightning Trainer.

    The values go to the Trainer's loggers as "curvature/lambda_max" and so on, the series stays in `rows`, and is
    part of the Trainer's checkpoints. Nothing that the training uses changes, to the bit. Of several processes the
    first one measures; in mixed precision the function is that in full precision.

    Args:
        problem: the module to its `Problem`, for instance `lambda module: ls.Problem(module.network, F.cross_entropy,
            data)`. Default: what `training_step` returns, without dropout, with the stored statistics of batch norm and
            with what it logs by `self.log` left out, in the mean over `samples` of the training data.
        every, samples, rho, trace_matvecs, settings: see `TrainingCallback`.
    Raises:
        ValueError: at the start, if weights are sharded, or without `problem` if optimisation is manual, or the
            training data cannot be read by index.
    """

    @property
    def state_key(self) -> str:
        return self._generate_state_key(every=self.tracker.every)

    def state_dict(self) -> dict[str, Any]:
        return self.tracker.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tracker.load_state_dict(state_dict)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        sharded = any(kind in type(trainer.strategy).__name__ for kind in ("FSDP", "DeepSpeed", "ModelParallel"))
        require(not sharded, "CurvatureCallback needs whole weights on each device, got sharded ones; take DDP")
        if trainer.is_global_zero:
            optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None  # of several none is the one
            self._begin(
                pl_module, lambda: _training_loss(trainer, pl_module, self.samples), optimizer, trainer.global_step
            )

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.is_global_zero and (values := self._measured(trainer.global_step)):
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)


def _training_loss(trainer: Any, module: Any, samples: int) -> Problem:
    """Mean of what `training_step` returns."""
    require(
        module.automatic_optimization,
        "training_step must return the loss, under manual optimisation it makes the step itself; "
        "pass problem=, the module to a Problem",
    )
    return Problem(
        module,
        lambda loss, _count: loss,
        fixed_part(trainer.train_dataloader, samples),
        forward=_silent_loss,
        weight=lambda _batch, count: count,
    )


def _silent_loss(module: Any, batch: Any) -> Tensor:
    """What `training_step` returns, with nothing logged."""
    places = [own.kind for own in inspect.signature(module.training_step).parameters.values()]
    by_place = len(places) > 1 or inspect.Parameter.VAR_POSITIONAL in places  # whatever its name, as in Lightning
    index = (0,) if by_place else ()
    logs = dict.fromkeys(("log", "log_dict"), lambda *_args, **_settings: None)
    hidden = {name: vars(module)[name] for name in logs if name in vars(module)}
    vars(module).update(logs)
    try:
        found = module.training_step(batch, *index)
    finally:
        for name in logs:
            del vars(module)[name]
        vars(module).update(hidden)
    return found["loss"] if isinstance(found, dict) else found
