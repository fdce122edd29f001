"""A small float64 network with a batch, its criterion, and the closure of an objective's step."""

import torch
import torch.nn.functional as F
from torch import nn

EXACT = {"rtol": 1e-12, "atol": 1e-12}
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(6) % 3
INDEX = torch.tensor([4, 0, 2, 7, 5, 1])


def criterion(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def closure_for(model, opt, objective, seen=None):
    """A closure; each pass appends its weights to `seen`."""

    def closure():
        opt.zero_grad()
        loss, _ = objective(model, X, Y, INDEX)
        loss.backward()
        if seen is not None:
            seen.append(nn.utils.parameters_to_vector(model.parameters()).detach())
        return loss

    return closure
