"""Leave no trace: random state, training flags and buffers are put back bit for bit, also after an exception."""

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from landscape.checks import require


@contextmanager
def random_state_kept(*generators: torch.Generator) -> Iterator[None]:
    """Restore Python's, NumPy's and torch's global random state, and that of `generators`."""
    restore = random_state(*generators)
    try:
        yield
    finally:
        restore()


_numpy: Any = np.random  # whose stubs lack the two functions used here


def random_state(*generators: torch.Generator) -> Callable[[], None]:
    """Remember Python's, NumPy's and torch's global random state, and that of `generators`.

    Returns:
        A function that goes back to that state; it can be called more than once, and pickled.
    """
    python, bits, cpu = random.getstate(), _numpy.get_bit_generator(), torch.get_rng_state()
    numpy = np.random.get_state(legacy=False)  # with the second number of a normal pair, which the generator lacks
    gpu = torch.cuda.get_rng_state_all() if gpu_draws() else []
    own = [(generator, generator.get_state()) for generator in generators]
    return partial(_go_back, python, bits, numpy, cpu, gpu, own)


def _go_back(
    python: Any,
    bits: Any,
    numpy: Any,
    cpu: torch.Tensor,
    gpu: list[torch.Tensor],
    own: list[tuple[torch.Generator, torch.Tensor]],
) -> None:
    random.setstate(python)
    if type(_numpy.get_bit_generator()) is not type(bits):
        _numpy.set_bit_generator(bits)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if gpu:
        torch.cuda.set_rng_state_all(gpu)
    for generator, state in own:
        generator.set_state(state)


def global_state() -> bytes:
    """What tells whether a random number has been drawn from a global generator."""
    host = random.getstate(), _numpy.get_bit_generator().state
    gpu = torch.cuda.get_rng_state_all() if gpu_draws() else []
    return pickle.dumps((host, [bytes(state.numpy()) for state in (torch.get_rng_state(), *gpu)]))


def gpu_draws() -> bool:
    """Whether random numbers may come from a GPU: it is in use, and no CUDA graph is being recorded, which has none."""
    return torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing()


def derivatives_on() -> AbstractContextManager[None]:
    """Derivatives also where the caller has switched them off by no_grad or inference_mode: else they would be 0."""
    return torch.inference_mode(False)


@contextmanager
def training_flags_kept(model: nn.Module) -> Iterator[None]:
    """Restore every module's own training flag."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restore every buffer, see `buffer_state`."""
    restore = buffer_state(model)
    try:
        yield
    finally:
        restore()


def buffer_state(model: nn.Module) -> Callable[[], None]:
    """Remember every buffer: running statistics, counters, power-iteration vectors; also one that is assigned anew.

    Returns:
        A function that goes back to them.
    """
    places = [(module._buffers, dict(module._buffers)) for module in model.modules()]
    buffers = {id(buffer): buffer for _, own in places for buffer in own.values() if buffer is not None}
    saved = [(buffer, buffer.detach().clone()) for buffer in buffers.values()]

    def restore() -> None:
        for present, before in places:
            present.clear()
            present.update(before)
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)

    return restore


def seed_torch(seed: int) -> None:
    """`torch.manual_seed`; without an accelerator its generator alone, as the rest formats stack traces for nothing."""
    (torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed)(seed)


def seed_of(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def random_source(generator: torch.Generator | None) -> torch.Generator:
    """The caller's generator, or a new one with seed 0: without one, the same call gives the same numbers.

    Raises:
        ValueError: if it is something else, such as a seed or NumPy's.
    """
    if generator is None:
        return torch.Generator().manual_seed(0)
    require(
        isinstance(generator, torch.Generator),
        f"generator must be a torch.Generator or None, got {type(generator).__name__}; "
        f"pass torch.Generator().manual_seed({generator if isinstance(generator, int) else 0})",
    )
    return generator
