"""A stand-in for CUDA graphs on the CPU: it keeps the operations and runs them again on the same tensors."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from landscape.autograd.cuda_graphs import CudaGraphs

READ_ON_THE_HOST = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class Recorder(CudaGraphs):
    """As torch records: no number may be read on the host, and what is recorded holds none until it is replayed.

    `operations` has those of each recording.
    """

    def __init__(self, device):
        super().__init__(device)
        self.failure, self.operations, self.inside = "", [], False

    @contextmanager
    def beside(self):
        self.inside = True
        yield
        self.inside = False

    def recorded(self, run):
        assert self.inside
        operations = _Operations()
        self.operations.append(operations.kept)
        with operations:
            run()

        for *_, made in operations.kept:
            for tensor in made:
                if tensor.is_floating_point():
                    tensor.detach().fill_(torch.nan)

        def replay():
            with torch.no_grad():
                for function, args, kwargs, made in operations.kept:
                    again = tree_leaves(function(*args, **kwargs))
                    for old, new in zip(made, [t for t in again if isinstance(t, torch.Tensor)], strict=bool(made)):
                        old.copy_(new)

        return replay


class _Operations(TorchDispatchMode):
    """Each call with its arguments, and the tensors that it has made anew: none where it gives views or writes."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READ_ON_THE_HOST:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        before = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        found = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        made = [t.detach() for t in found if t.untyped_storage().data_ptr() not in before]
        if made or func._schema.is_mutable:
            self.kept.append((func, args, kwargs or {}, made))
        return result
