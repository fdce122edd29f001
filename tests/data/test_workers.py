"""Workers that read data, asked for where no process may be started."""

from types import SimpleNamespace

import pytest
import torch

from landscape.data import workers
from landscape.data.workers import Chosen, Sample, loaded


def test_in_a_process_that_may_start_none_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    items = Chosen(Sample([(torch.zeros(2), 1)], "mine", 2))
    monkeypatch.setattr(workers, "current_process", lambda: SimpleNamespace(daemon=True))
    with pytest.raises(ValueError, match=r"^workers=2 need a process that may start others, which Dask's are with"):
        next(loaded(items, 2, False, 0, [(0, [0], [0])]))
    ((x, y, at),) = loaded(items, 0, False, 0, [(0, [0], [0])])
    assert (x.tolist(), y.tolist(), at.tolist()) == ([[0.0, 0.0]], [1], [0])
