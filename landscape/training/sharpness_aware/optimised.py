"""Which of a model's parameters an optimiser moves at present, and what each is called."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import not_negative, require
from landscape.training.rules import Rule
from landscape.training.sharpness_aware.carried import Shapes
from landscape.vectors import Layout, layout_of, placed_as, whole

Groups = Sequence[Mapping[str, Any]]
WITHIN = ("_orig_mod.", "_checkpoint_wrapped_module.")  # what torch's wrappers put into the names of parameters


class OptimisedParameters:
    """The parameters of a model, told by what they are and not by their place."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._labels = self._found()

    def _found(self) -> dict[Tensor, tuple[str, bool, bool]]:
        layout = layout_of(self.model)
        labels = zip(_plain_names(self.model, layout.names), layout.is_weight, layout.is_norm, strict=True)
        return dict(zip(self.model.parameters(), labels, strict=True))

    def check(self, parameters: Iterable[Tensor]) -> None:
        """Raises ValueError for a parameter that is not the model's, or that no flat vector of real numbers holds."""
        parameters = list(parameters)
        if any(p not in self._labels for p in parameters):
            self._labels = self._found()  # the model may have grown
        foreign = [tuple(p.shape) for p in parameters if p not in self._labels]
        require(
            not foreign, f"every optimised parameter must belong to model, got one of shape {foreign[:1]} that does not"
        )
        devices = sorted({str(p.device) for p in parameters})
        require(len(devices) < 2, f"parameters must be on one device, got {', '.join(devices)}; move the model to one")
        for p in parameters:
            name = self._labels[p][0]
            kind = "complex" if p.is_complex() else "" if p.layout == torch.strided else "sparse"
            require(
                not kind,
                f"parameters must be dense and real, got {name!r}, which is {kind}; "
                "optimise it with another optimiser, or hold a complex one as two real ones (torch.view_as_real)",
            )

    def present(self, groups: Groups) -> tuple[list[Tensor], Layout]:
        """Those that require grad, in the order of the groups, and where each lies in (P,)."""
        parameters = [p for group in groups for p in group["params"] if p.requires_grad]
        require(bool(parameters), "the optimiser must hold a parameter that requires grad, got none")
        names, is_weight, is_norm = zip(*(self._labels[p] for p in parameters), strict=True)
        return parameters, Layout(names, tuple(p.shape for p in parameters), is_weight, is_norm)

    def move_along(self, u: Tensor, groups: Groups) -> None:
        """w ← w − lr u, with the learning rate of each group."""
        parameters, layout = self.present(groups)
        rates = [group["lr"] for group in groups for p in group["params"] if p.requires_grad]
        with torch.no_grad():
            for p, piece, lr in zip(parameters, layout.unflatten(u), rates, strict=True):
                p.sub_(placed_as(lr * piece, p).to(p.dtype))


def _plain_names(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Without what wrappers add, so that a state goes on compiled or not, on several processes or on one."""
    joined = isinstance(getattr(model, "_orig_mod", model), nn.parallel.DistributedDataParallel | nn.DataParallel)
    for within in WITHIN:
        names = [name.replace(within, "") for name in names]
    return [name.removeprefix("module.") if joined else name for name in names]


def at_rest(groups: Groups) -> bool:
    """Whether all gradients are there and zero, as where a checkpoint has the state of an optimiser set up."""
    grads = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    return bool(grads) and not any(whole(grad).any() for grad in grads)


def shapes_in(layout: Layout) -> Shapes:
    """The parameters in (P,), by name."""
    return dict(zip(layout.names, layout.shapes, strict=True))


def own_radii(groups: Groups, rule: Rule) -> list[float] | None:
    """For each parameter that requires grad the radius of its group over the rule's; None where no group has its own.

    Raises:
        ValueError: if a group's `rho` is negative, or e of the rule is not proportional to its radius.
    """
    if all(group.get("rho") is None for group in groups):
        return None
    radii = []
    for group in groups:
        own: Any = rule.rho if group.get("rho") is None else group["rho"]
        require(not isinstance(own, str), f"rho of a parameter group must be a number, got {own!r}")
        require(
            rule.rho is not None,
            f"e of rule {rule.name!r} is not proportional to rho, got a parameter group with rho={own!r}; leave it out",
        )
        not_negative("rho of a parameter group", own)
        require(
            rule.rho != 0 or own == 0,
            f"a rule of radius 0 has no direction, got a parameter group with rho={own!r}; give the rule the largest",
        )
        radii += [own / rule.rho if rule.rho else 1.0 for p in group["params"] if p.requires_grad]
    return radii
