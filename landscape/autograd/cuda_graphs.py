"""A function of one tensor replayed as a CUDA graph: one launch in place of hundreds, for which small networks wait.

Off unless LANDSCAPE_CUDA_GRAPHS=1 is in the environment: it has been tested with a stand-in on the CPU, and has not yet
run on a GPU. A recording holds kernels and addresses but no Python. So the first replay must give, on another input
than was recorded, what the function gives; where it does not, where recording fails (a number is read on the host, data
comes from the CPU) or would freeze something (random numbers, collectives), the function is called as ever.
Source: the notes on CUDA graphs in torch's documentation (PyTorch 2.x, "CUDA semantics").
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from landscape.checks import first_line
from landscape.side_effects import global_state

FLAG = "LANDSCAPE_CUDA_GRAPHS"
WARM_UP = 2  # calls before a recording besides the first one, three in all as torch advises
_FAILED: list[Any] = []  # recordings that did not end well: torch's allocator may still point to them


def cuda_graphs(device: torch.device) -> "CudaGraphs | None":
    """What recordings on this device are made with; None where they are not asked for."""
    return CudaGraphs(device) if os.environ.get(FLAG) == "1" else None


class CudaGraphs:
    """Makes recordings that share their memory, on a stream of its own.

    What shall be recorded must have its autograd graph built on that stream too, see `beside`: a backward step runs on
    the stream of its forward step, and the default stream cannot be recorded. Recordings are replayed one after
    another, so that one may use what another has freed.

    Attributes:
        failure: why nothing is replayed from now on; "" where nothing speaks against it.
        replays: how many there were.
    """

    def __init__(self, device: torch.device) -> None:
        self.replays, self.failure = 0, ""
        self._stream: Any = None
        if device.type != "cuda":
            self.failure = f"the weights are on {device.type}, not on a GPU"
        elif distributed.is_available() and distributed.is_initialized():
            self.failure = "there are several processes, which may wait for each other while one of them records"
        else:
            self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """The block's work goes to the stream that is recorded, after all before and before all that follows."""
        if self._stream is None:
            yield
            return
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    def recorded(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """What `run` launches, as a function that launches it once more; within `beside`."""
        graph, index = torch.cuda.CUDAGraph(), self._stream.device_index
        generator: Any = torch.cuda.default_generators[index]
        before = generator.clone_state()
        try:
            with torch.cuda.graph(graph, self._pool, self._stream, "thread_local"):  # a loader's threads go on
                run()
        except BaseException:  # torch leaves generator and allocator as if the recording still went on
            generator.graphsafe_set_state(before)
            _FAILED.append(graph)
            with suppress(Exception):
                torch._C._cuda_endAllocateToPool(index, self._pool)
            raise
        return graph.replay

    def said(self) -> str:
        """For a report."""
        return f"{self.replays} replays" + (f"; none from then on: {self.failure}" if self.failure else "")


@dataclass(eq=False)
class _Recording:
    """Tensors at fixed addresses: what is copied into the first shows in the second after a replay."""

    given: Tensor
    found: Tensor
    replay: Callable[[], Any]
    alive: Any  # what else it reads
    proven: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        self.given.copy_(x)
        self.replay()
        return self.found.clone()


class Replayed:
    """A function of one tensor: called and recorded at first, for each shape, and replayed once it has been proven.

    Args:
        function: to a tensor with columns, which are compared one by one.
        graphs: what recordings are made with; its `failure` ends all replays.
        alive: what the function reads besides, which must not be freed; asked for when it is recorded.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], graphs: CudaGraphs, alive: Callable[[], Any] = lambda: None
    ) -> None:
        self._function, self._graphs, self._alive = function, graphs, alive
        self._recordings: dict[torch.Size, _Recording] = {}

    def __call__(self, x: Tensor) -> Tensor:
        recording = None if self._graphs.failure else self._recordings.get(x.shape)
        if recording is not None and recording.proven:
            self._graphs.replays += 1
            return recording(x)
        result = self._function(x)
        if self._graphs.failure:
            self._recordings.clear()
        elif recording is None:
            self._record(x)
        elif not torch.equal(recording.given, x):  # else it would prove nothing
            recording.proven = _agree(recording(x), result, torch.finfo(x.dtype).eps ** 0.75)
            if not recording.proven:
                self._graphs.failure = "the first replay differs from the call, which must depend on more than tensors"
        return result

    def _record(self, x: Tensor) -> None:
        given, before, found = x.clone(), global_state(), []
        try:
            for _ in range(WARM_UP):
                self._function(given)
            if global_state() != before:
                self._graphs.failure = "random numbers are drawn"
                return
            replay = self._graphs.recorded(lambda: found.append(self._function(given)))
        except Exception as error:  # whatever it is, the call itself has been answered
            self._graphs.failure = f"recording failed: {_cause(error)}"
            return
        self._recordings[x.shape] = _Recording(given, found[0], replay, self._alive())


def _agree(one: Tensor, two: Tensor, tolerance: float) -> bool:
    """Whether columns (n, K) are equal to rounding, NaN and infinity alike."""
    size = two.nan_to_num(0, 0, 0).norm(dim=0)
    alike = ((one - two).abs() <= tolerance * size) | (one == two) | (one.isnan() & two.isnan())
    return bool(alike.all())


def _cause(error: BaseException) -> str:
    while error.__context__ is not None:  # the end of a recording that was spoilt raises anew
        error = error.__context__
    return first_line(error)
