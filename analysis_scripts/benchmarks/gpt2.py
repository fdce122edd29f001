"""Peak memory and time of a Hessian product of GPT-2 (124 million random weights), over those of a gradient.

`gpt2.py TASK TOKENS THREADS` runs one task in this process and prints its numbers as JSON.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from measure import own_peak, seconds
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import landscape as ls

BATCH, TOKENS = 2, 64
TASKS = ("nothing", "gradient", "product")


def network(**settings: Any) -> nn.Module:
    """GPT-2 of the Hugging Face hub's default configuration, random weights."""
    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401  (transformers does so where it finds it)
    except ImportError:
        pass
    except RuntimeError:  # one that was built for another torch: as if it were not there
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**settings)).eval()


def logits(model: nn.Module, tokens: Tensor) -> Tensor:
    """Scores of each position's next token, (batch, tokens, words)."""
    return model(tokens, use_cache=False).logits


def next_token_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy over the positions that have a next token."""
    return cross_entropy(scores[:, :-1].flatten(0, 1), targets[:, 1:].flatten())


def run(task: str, threads: int) -> dict[str, float]:
    """Seconds of a task's calls in order, and the megabytes held at most."""
    torch.set_num_threads(threads)
    model = network()
    tokens = torch.randint(50257, (BATCH, TOKENS), generator=torch.Generator().manual_seed(0))
    parameters, spent = list(model.parameters()), []
    if task == "gradient":
        spent = [
            seconds(lambda: torch.autograd.grad(next_token_loss(logits(model, tokens), tokens), parameters))
            for _ in range(3)
        ]
    elif task == "product":
        H = ls.hessian(ls.Problem(model, next_token_loss, (tokens, tokens), forward=logits))
        v = torch.randn(H.shape[0], generator=torch.Generator().manual_seed(0))
        spent = [seconds(lambda: H.matvec(v)) for _ in range(3)]
    return {"megabytes": own_peak("cpu")} | {str(turn): one for turn, one in enumerate(spent)}


def comparison(threads: int, before: Path | None) -> list[dict[str, Any]]:
    """Rows of `interleaved.py`: memory and time, this version's and, if there is one, an earlier one's."""
    try:
        now = {task: _apart(task, threads, None) for task in TASKS}
    except subprocess.CalledProcessError as failure:
        words = failure.stderr.splitlines()[-1]
        return [{"section": "gpt2", "number": "all", "threads": threads, "failure": words}]
    then = now | {"product": _apart("product", threads, before)} if before else None
    found = []
    for number, value, bound, unit in (
        ("peak of a product", _peak, 1.6, "gradients' peaks"),
        ("peak beyond the network", _peak_beyond, None, "gradients' peaks"),
        ("first product", lambda one: one["product"]["0"] / one["product"]["1"], 1.3, "second products"),
        ("second product", lambda one: one["product"]["1"] / one["gradient"]["1"], None, "gradients"),
    ):
        row: dict[str, Any] = {"section": "gpt2", "number": number, "unit": unit, "bound": bound, "threads": threads}
        row |= {"value": value(now), "measured": now}
        if then:
            row |= {"before": value(then), "now_over_before": value(now) / value(then)}
        found.append(row)
    return found


def _peak(one: dict[str, dict[str, float]]) -> float:
    return one["product"]["megabytes"] / one["gradient"]["megabytes"]


def _peak_beyond(one: dict[str, dict[str, float]]) -> float:
    idle = one["nothing"]["megabytes"]
    return (one["product"]["megabytes"] - idle) / (one["gradient"]["megabytes"] - idle)


def _apart(task: str, threads: int, checkout: Path | None) -> dict[str, float]:
    """`run` in a process of its own, of another checkout's package if one is given."""
    environment = os.environ | ({"PYTHONPATH": str(checkout.resolve())} if checkout else {})
    command = [sys.executable, __file__, task, str(threads)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return dict(json.loads(text.splitlines()[-1]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1], int(sys.argv[2]))) + "\n")
