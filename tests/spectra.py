"""Spectra that eigensolvers meet, and what a result claims checked against the dense matrix."""

import torch

SPECTRA = {
    "network": torch.cat([torch.linspace(-1, 1, 290), torch.logspace(0.5, 1.5, 10)]),
    "negative": torch.cat([torch.linspace(-1, 1, 290), -torch.logspace(0.5, 1.5, 5), torch.linspace(2, 3, 5)]),
    "decaying": torch.logspace(1, -9, 300),
    "no gap": torch.linspace(0.01, 1, 300),
    "tiny": 1e-6 * torch.cat([torch.linspace(-1, 1, 290), torch.logspace(0.5, 1.5, 10)]),
    "rank three": torch.cat([torch.zeros(297), torch.tensor([3.0, -2.0, 1.0])]),
}
DEGENERATE = {
    "identity": torch.ones(100),
    "zero": torch.zeros(100),
    "rank one": torch.cat([torch.tensor([2.0]), torch.zeros(99)]),
    "negative rank one": torch.cat([torch.tensor([-2.0]), torch.zeros(99)]),
    "two values": torch.cat([torch.full((50,), 3.0), torch.full((50,), -1.0)]),
    "four values": torch.tensor([5.0, 4.0, 2.0, -1.0]).repeat(25),
}
TRIPLE = torch.cat([torch.tensor([5.0, 5.0, 5.0, 4.0, 3.0, 3.0, 2.0]), torch.linspace(-1, 1, 193)])


def wanted(values, which, k):
    values = values.double()
    order = {"LM": -values.abs(), "LA": -values, "SA": values}[which].argsort(stable=True)
    return values[order][:k]


def check(A, pairs, expected):
    """All that a result claims, against the dense matrix."""
    k, scale = len(expected), float(A.matrix.double().norm())
    V = pairs.vectors.double()
    residuals = (A.matrix.double() @ V - V * pairs.values.double()).norm(dim=0)
    rounding = 1e-13 * scale  # of the dense arithmetic here
    assert (V.T @ V - torch.eye(k)).abs().max() < 1e-11
    assert (residuals <= pairs.residuals.double() + rounding).all()
    spectrum = torch.linalg.eigvalsh(A.matrix.double())
    nearest = (pairs.values.double()[:, None] - spectrum).abs().amin(1)
    assert (nearest <= pairs.residuals.double() + rounding).all()
    errors = (pairs.values.double() - expected).abs()
    assert (errors <= pairs.residuals.double() + rounding)[pairs.converged].all()  # others may be of another index
    assert pairs.values.shape == pairs.residuals.shape == pairs.converged.shape == (k,)
