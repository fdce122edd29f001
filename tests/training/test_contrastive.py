"""The supervised contrastive loss against its formula in loops, alone, under SAM and in the bundled trainer."""

import pytest
import torch
from objective_cases import EXACT, INDEX, X, Y, closure_for, criterion, network
from torch import nn
from training_cases import config, rows

from landscape.training import train
from landscape.training.objectives import SupervisedContrastive
from landscape.training.objectives.contrastive import contrast
from landscape.training.rules import sam
from landscape.training.sharpness_aware.step import SharpnessAware


def in_loops(outputs, labels, tau):
    z, losses = outputs.flatten(1), []
    z = z / z.norm(dim=1, keepdim=True)
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        alike = [p for p in others if labels[p] == labels[i]]
        total = sum(torch.exp(z[i] @ z[a] / tau) for a in others)
        if alike:
            losses.append(-sum(torch.log(torch.exp(z[i] @ z[p] / tau) / total) for p in alike) / len(alike))
    return sum(losses) / max(len(losses), 1)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2], [0, 0, 0, 0, 1, 2], [3, 3, 3, 3, 3, 3]])
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_it_is_the_formula(labels, tau):
    outputs, labels = network()(X), torch.tensor(labels)
    torch.testing.assert_close(contrast(outputs, labels, tau), in_loops(outputs, labels, tau), **EXACT)
    maps = outputs.view(6, 3, 1)  # any shape, of any length
    torch.testing.assert_close(contrast(5 * maps, labels, tau), in_loops(outputs, labels, tau), **EXACT)


def test_samples_that_are_alone_have_no_gradient():
    z = X.clone().requires_grad_()
    loss = contrast(z, torch.arange(6))
    loss.backward()
    assert loss.item() == 0.0
    assert not z.grad.any()


def test_one_step_of_sam_written_out():
    model, objective = network(), SupervisedContrastive(criterion, tau=0.5)
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(0.3), model=model)
    w = nn.utils.parameters_to_vector(model.parameters()).detach()

    def gradient(at):
        twin = network()
        nn.utils.vector_to_parameters(at, twin.parameters())
        loss = in_loops(twin(X), Y, 0.5)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(twin.parameters()))])

    objective.start_step()
    opt.step(closure_for(model, opt, objective))
    g = gradient(w)
    moved = nn.utils.parameters_to_vector(model.parameters()).detach()
    torch.testing.assert_close(moved, w - 0.1 * gradient(w + 0.3 * g / g.norm()), rtol=1e-10, atol=1e-12)


def test_targets_that_are_no_labels_are_named():
    with pytest.raises(ValueError, match=r"targets must be labels \(6,\), got torch.float64 .*leave mixup out"):
        SupervisedContrastive(criterion)(network(), X, torch.rand(6, 3, dtype=torch.float64), INDEX)


def test_the_bundled_trainer_lowers_it(tmp_path):
    losses = [row["train_loss"] for row in rows(train(config(tmp_path, objective="supervised_contrastive")))]
    assert losses[-1] < losses[0]
