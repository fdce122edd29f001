"""The optimiser that a config describes: its base, the rule around it, and what the trainer finds for the rule."""

from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.checks import require
from landscape.curvature import fisher as fisher_matrix
from landscape.curvature import hessian
from landscape.data import Images, Lazy
from landscape.linalg import top_eigenpairs
from landscape.linalg.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.side_effects import buffers_kept, random_state_kept, training_flags_kept
from landscape.training.optimizers.by_name import stepped
from landscape.training.rules.rule import PLAIN
from landscape.training.sharpness_aware.step import SharpnessAware
from landscape.training.sharpness_aware.wrapper import require_descent
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.device import place_of
from landscape.training.trainer.diagnostics import LastPerturbation
from landscape.training.trainer.schema import NEEDS_PASS_2


def make_optimizer(
    config: TrainConfig, model: nn.Module, network: nn.Module, data: Images | Lazy, last: LastPerturbation | None = None
) -> torch.optim.Optimizer:
    """An optimiser of the model's parameters.

    Args:
        config: says which.
        model: the network.
        network: the same, or what joins its gradients over several processes.
        data: of which the first images give a rule its eigenvector, its squared gradients or its Fisher matrix.
        last: is to remember the rule's e, where it has one.
    """
    if ":" in config.base:
        stepped(config.base, lambda twin: config.make_base(twin.parameters(), twin), deepcopy(model))
    base = config.make_base(model.parameters(), model)
    require_descent(base.param_groups)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)

    @cache
    def subset() -> tuple[Tensor, Tensor]:
        return data.first(config.eigen_samples)

    require(
        config.optimizer != "natural_gradient" or not _random(model, subset()[0][:4]),
        "natural_gradient needs a network without dropout and the like, which it leaves out; take dropout=0",
    )

    def top() -> Tensor:
        state = optimizer.rule_state  # the last eigenvector is in the saved state, so a resumed run starts from it too
        H = hessian(Problem(model, criterion, subset()), mode="double_backward")  # the fastest would hang on the clock
        start = state["v"] if state else None
        pairs = top_eigenpairs(H, 1, which="LA", max_matvecs=config.eigen_products, start=start, progress=False)
        return pairs.vectors[:, 0]

    def fisher() -> Tensor:
        singles = list(zip(*(part.split(1) for part in subset()), strict=True))
        with Problem(model, criterion, singles).batches() as batches:
            return sum((batch.gradient(batch.w) ** 2 for batch in batches), torch.zeros((), device="cpu"))

    twice = config.objective == NEEDS_PASS_2

    def operator() -> CurvatureOperator:
        return fisher_matrix(Problem(model, criterion, subset()), mode="double_backward", verify=False)

    rule = config.rule({"top": top, "fisher": fisher, "operator": operator})
    if rule is None and not (twice or config.clip_norm or config.precision == "fp16"):
        return base
    rule = PLAIN if rule is None else last.of(rule) if last else rule
    joined = isinstance(network, DistributedDataParallel) and config.m_sharpness > 0
    whole, clip = network if joined else model, config.clip_norm or None
    optimizer = SharpnessAware(base, rule, model=whole, max_norm=clip, per_rank=joined, twice=twice)
    return optimizer


@torch.no_grad()
def _random(model: nn.Module, inputs: Tensor) -> bool:
    """Whether the network draws random numbers in training."""
    with random_state_kept(), buffers_kept(model), training_flags_kept(model):
        model.train()
        inputs = inputs.to(place_of(model))
        return not torch.allclose(model(inputs), model(inputs), rtol=1e-3, atol=1e-5)
