"""The guide to losses of other kinds runs, and its problems are what plain loops give."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import landscape as ls

GUIDE = (Path(__file__).parents[2] / "docs/guides/other_losses.md").read_text()


@pytest.fixture(scope="module")
def scope():
    """The names that the guide's code has made; `problems` are its problems, in order."""
    found, problems = {}, []
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
            exec(block, found)
            problems.append(found["problem"])
    return {**found, "problems": problems}


def test_pixels_that_are_known_count(scope):
    outputs, masks = scope["model"](scope["images"]), scope["masks"]
    expected = {name: F.cross_entropy(z, masks, ignore_index=255).detach() for name, z in outputs.items()}
    torch.testing.assert_close(scope["problems"][0].loss(), expected["out"], rtol=1e-6, atol=0)
    torch.testing.assert_close(scope["both"].loss(), expected["out"] + 0.4 * expected["aux"], rtol=1e-6, atol=0)


def test_losses_of_training_mode_are_had_without_its_dropout_and_statistics(scope):
    problem, detector = scope["problem"], scope["detector"]
    features = detector.body.eval()(torch.stack([image.mean((1, 2)) for image in scope["pictures"]]))
    boxes, labels = (torch.stack([target[key] for target in scope["objects"]]) for key in ("box", "label"))
    expected = F.smooth_l1_loss(detector.box(features), boxes) + F.cross_entropy(detector.label(features), labels)
    torch.testing.assert_close(problem.loss(), expected.detach(), rtol=1e-6, atol=0)
    assert (problem.extent.units, problem.extent.batches) == (5, 2)
    buffers = {name: buffer.clone() for name, buffer in detector.named_buffers()}
    detector.train()
    before = [module.training for module in detector.modules()]
    dense = torch.autograd.functional.hessian(
        lambda w: loss_at(scope, w), problem.vector(), vectorize=True
    )  # the same loss, written anew
    torch.testing.assert_close(ls.hessian(problem).dense(), dense, rtol=1e-4, atol=1e-6)
    assert [module.training for module in detector.modules()] == before
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in detector.named_buffers())
    with pytest.raises(ValueError, match="outputs"):
        ls.ggn(problem).dense()


def loss_at(scope, w):
    """The detector's loss on all images at once, batch norm with stored statistics, without dropout."""
    detector, layout = scope["detector"], scope["problem"].layout
    p = dict(zip(layout.names, layout.unflatten(w), strict=True))
    x = torch.stack([image.mean((1, 2)) for image in scope["pictures"]])
    norm = detector.body[1]
    hidden = F.linear(x, p["body.0.weight"], p["body.0.bias"])
    hidden = F.batch_norm(hidden, norm.running_mean, norm.running_var, p["body.1.weight"], p["body.1.bias"])
    features = torch.tanh(hidden)
    boxes, labels = (torch.stack([target[key] for target in scope["objects"]]) for key in ("box", "label"))
    return F.smooth_l1_loss(F.linear(features, p["box.weight"], p["box.bias"]), boxes) + F.cross_entropy(
        F.linear(features, p["label.weight"], p["label.bias"]), labels
    )
