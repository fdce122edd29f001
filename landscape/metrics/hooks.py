"""Watching a network's modules at work: hooks that are removed afterwards, also when a pass fails."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.metrics.subsets import first_samples
from landscape.problem import Problem


@contextmanager
def running(model: nn.Module) -> Iterator[list[str]]:
    """The names of the modules that are running now, the innermost last."""
    stack: list[str] = []

    def leave(*_: object) -> None:
        stack.pop()

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            before = module.register_forward_pre_hook(lambda *_, name=name: stack.append(name))
            after = module.register_forward_hook(leave)
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        yield stack


def first_inputs(problem: Problem, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What each of the modules is given for the first sample, without the batch axis; the largest, if it runs often."""
    found: dict[str, Tensor] = {}

    def note(name: str, inputs: Any) -> None:
        sample = inputs[0].detach()[0]
        if name not in found or sample.numel() > found[name].numel():
            found[name] = sample

    with ExitStack() as hooks:
        for name, module in modules.items():
            hook = module.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs))
            hooks.callback(hook.remove)
        first_samples(problem, 1).loss()
    return found


class CallsSeen(TorchFunctionMode):
    """Within the block `seen` is told of each call of a torch function: the function, its arguments, its result."""

    def __init__(self, seen: Callable[[Any, tuple[Any, ...], Mapping[str, Any], Any], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        self._seen(func, args, given, result)
        return result
