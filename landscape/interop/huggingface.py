"""A Hugging Face Trainer whose steps are those of a `Rule`; needs the extra `huggingface`.

The Trainer passes micro-batches one at a time, then clips `.grad` and lets the optimiser step. Here the last
micro-batch also makes pass 2, over all of them at the same w + e, and leaves the rule's direction in `.grad`. What
follows (clipping, schedulers, logging, checkpoints) is the Trainer's own; the loss that it logs is that of pass 1.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from landscape.checks import first_cause, require

try:
    from transformers import Trainer
except Exception as error:  # ImportError, whatever it was
    if find_spec("transformers") is None:
        raise ImportError(
            "landscape.interop.huggingface needs transformers; pip install 'landscape-toolkit[huggingface]'"
        ) from error
    raise ImportError(
        f"transformers is installed and does not load: {first_cause(error)}; where that is torchvision's, built for "
        "another torch, pip uninstall torchvision"
    ) from error

from landscape.interop.huggingface_callback import CurvatureCallback
from landscape.interop.huggingface_losses import causal_lm_problem, sequence_classification_problem
from landscape.side_effects import random_state
from landscape.training.rules import Rule
from landscape.training.sharpness_aware.step import SharpnessAware

__all__ = ["CurvatureCallback", "SharpnessAwareTrainer", "causal_lm_problem", "sequence_classification_problem"]


class SharpnessAwareTrainer(Trainer):  # type: ignore[misc]  # untyped where transformers is not there
    """`transformers.Trainer` with a sharpness-aware step.

        trainer = SharpnessAwareTrainer(model, arguments, train_dataset=data, rule=ls.rules.sam(rho=0.05))

    e follows from the gradient of all micro-batches of a step, token averages over them included, and `max_grad_norm`
    clips the direction of the step, not the gradients that it is made of. All passes see the same dropout masks.
    `optimizer.pt` holds the rule's state beside the base's, and `resume_from_checkpoint` goes on from it, bit for bit
    on the CPU. A gradient that is not finite skips the step, with a warning.

    Args:
        args, kwargs: the Trainer's; an optimiser among them becomes the base.
        rule: from `landscape.training.rules`, or a `Rule` of one's own.
    Raises:
        ValueError: with fp16, DeepSpeed or FSDP; precision may be full or bf16, devices one or several under DDP.
    """

    optimizer: Any

    def __init__(self, *args: Any, rule: Rule, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        require(not self.args.fp16, "SharpnessAwareTrainer needs full precision or bf16, got fp16; take bf16=True")
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        require(
            not sharded, "SharpnessAwareTrainer needs whole weights on each device, got DeepSpeed or FSDP; take DDP"
        )
        self.rule = rule
        self._passed: list[Callable[[], Any]] = []  # micro-batches since the last step, to be passed again

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer has it."""
        self._passed = []  # of a training that was stopped before its step
        return super().train(*args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> SharpnessAware:
        """The Trainer's optimiser, or the one it was given, as base of the rule."""
        if not isinstance(_unwrapped(self.optimizer), SharpnessAware):
            super().create_optimizer(*args, **kwargs)
            self.optimizer = _Waiting(self.optimizer, self.rule, model=self.model)
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Pass 1 of a micro-batch; after the last one before a step all further passes as well."""
        whole, rewind = super().training_step, random_state()

        def passed() -> Tensor:
            rewind()
            return whole(model, inputs, num_items_in_batch)

        if not self.accelerator.sync_gradients:
            self._passed.append(passed)
            return passed()
        earlier, self._passed = self._passed, []
        first = iter([True])

        def closure() -> Tensor:
            if not next(first, False):
                with self.accelerator.no_sync(model=model):
                    for again in earlier:
                        again()
            return passed()

        return _unwrapped(self.optimizer).direction(closure)


class _Waiting(SharpnessAware):
    """Its passes are made before the step, which is the base's alone."""

    def step(self, *_args: Any, **_settings: Any) -> Any:
        return self.base.step()


def _unwrapped(optimizer: Any) -> Any:
    """Without accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
