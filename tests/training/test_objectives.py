import pytest
import torch
import torch.nn.functional as F
from objective_cases import EXACT, INDEX, X, Y, criterion, network
from step_cases import closure_of

from landscape.training.objectives import (
    OBJECTIVES,
    AdversarialInputs,
    Mesa,
    Objective,
    Saf,
    SupervisedContrastive,
    TopSamples,
)
from landscape.training.rules import sam
from landscape.training.sharpness_aware.step import SharpnessAware


def divergence(past, present, tau):
    """tau² Σ p log(p/q), the mean over samples, written out."""
    p, q = torch.softmax(past / tau, 1), torch.softmax(present / tau, 1)
    return tau**2 * (p * (p / q).log()).sum(1).mean()


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "supervised_contrastive"])
def test_pass_one_of_the_first_epoch_is_the_mean_criterion(name):
    model, objective = network(), OBJECTIVES[name](criterion)
    objective.start_epoch(0, model)
    objective.start_step()
    loss, outputs = objective(model, X, Y, INDEX)
    torch.testing.assert_close(loss, F.cross_entropy(model(X), Y), **EXACT)
    assert torch.equal(outputs, model(X))


def test_saf_compares_with_the_logits_of_some_epochs_ago():
    models, objective = [network() for _ in range(5)], Saf(criterion, lmbda=0.3, tau=2.0, start=2, lag=2)
    for epoch, model in enumerate(models):
        with torch.no_grad():
            model[0].weight.mul_(1 + epoch)
        objective.start_epoch(epoch, model)
        objective.start_step()
        loss, outputs = objective(model, X, Y, INDEX)
        expected = criterion(model(X), Y).mean()
        if epoch >= 2:
            expected = expected + 0.3 * divergence(models[epoch - 2](X), outputs, 2.0)
        torch.testing.assert_close(loss, expected, **EXACT)
        loss.backward()
        with torch.no_grad():
            objective(network(), X, Y, INDEX)  # pass 2, at other weights: its logits are not kept


def test_saf_leaves_out_samples_that_it_has_not_met():
    model, objective = network(), Saf(criterion, lmbda=0.3, tau=2.0, start=1, lag=1)
    objective.start_epoch(0, model)
    objective(model, X[:2], Y[:2], INDEX[:2])
    old = model(X).detach()
    with torch.no_grad():
        model[0].weight.mul_(2)
    objective.start_epoch(1, model)
    objective.start_step()
    loss, outputs = objective(model, X, Y, INDEX)
    expected = criterion(outputs, Y).mean() + 0.3 * 2 / 6 * divergence(old[:2], outputs[:2], 2.0)
    torch.testing.assert_close(loss, expected, **EXACT)


def test_mesa_compares_with_the_moving_average_of_the_weights():
    model, objective = network(), Mesa(criterion, lmbda=0.8, tau=2.0, start=1, decay=0.9)
    average = None
    for epoch in range(4):
        objective.start_epoch(epoch, model)
        if epoch == 1:
            average = network()
            average.load_state_dict(model.state_dict())
        loss, outputs = objective(model, X, Y, INDEX)
        expected = criterion(outputs, Y).mean()
        if epoch >= 1:
            expected = expected + 0.8 * divergence(average(X), outputs, 2.0)
        torch.testing.assert_close(loss, expected, **EXACT)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.3)
            if average is not None:
                for ours, p in zip(average.parameters(), model.parameters(), strict=True):
                    ours.mul_(0.9).add_(0.1 * p)
        objective.end_step(model)


def test_the_second_pass_of_esam_is_over_the_samples_whose_loss_rose_most():
    model, objective = network(), TopSamples(criterion, gamma=0.5)
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(0.5), model=model)
    seen = []

    def closure():
        opt.zero_grad()
        loss, outputs = objective(model, X, Y, INDEX)
        loss.backward()
        seen.append((loss.detach(), criterion(outputs, Y).detach()))
        return loss

    for _ in range(2):
        seen.clear()
        objective.start_step()
        opt.step(closure)
        (first, before), (second, after) = seen
        torch.testing.assert_close(first, before.mean(), **EXACT)
        rose = sorted(range(6), key=lambda i: (before - after)[i].item())[:3]
        torch.testing.assert_close(second, after[rose].mean(), **EXACT)
    assert TopSamples(criterion, gamma=1.0).gamma == 1.0


def test_adversarial_inputs_move_uphill_in_the_second_pass_by_the_first_passes_backward():
    model, objective, seen = network(), AdversarialInputs(criterion, size=0.1), []
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.0), sam(1e-12), model=model)
    model.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach().clone()))
    for _ in range(2):
        objective.start_step()
        opt.step(closure_of(opt, lambda: objective(model, X, Y, INDEX)[0]))
    leaf = X.clone().requires_grad_()
    slope = torch.autograd.grad(F.cross_entropy(network()(leaf), Y), leaf)[0]
    assert torch.equal(seen[0], X)
    torch.testing.assert_close(seen[1], X + 0.1 * slope.sign(), **EXACT)
    torch.testing.assert_close(seen[3], seen[1], **EXACT)
    assert not X.requires_grad


@pytest.mark.parametrize("make", [lambda: Saf(criterion, start=2, lag=1), lambda: Mesa(criterion, start=1), Objective])
def test_the_state_resumes_to_the_bit(make, tmp_path):
    make = make if make is not Objective else lambda: Objective(criterion)
    model, first, resumed = network(), make(), make()
    for epoch in range(3):
        if epoch == 2:
            torch.save(first.state_dict(), tmp_path / "state.pt")
            resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
            resumed.start_epoch(epoch, model)
        first.start_epoch(epoch, model)
        first.start_step()
        loss, _ = first(model, X, Y, INDEX)
        if epoch == 2:
            resumed.start_step()
            assert torch.equal(loss, resumed(model, X, Y, INDEX)[0])
        with torch.no_grad():
            model[0].weight.mul_(1.5)
        first.end_step(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Saf(criterion, lmbda=-1.0), "lmbda must be"),
        (lambda: Saf(criterion, lag=0), "lag must be an integer at least 1"),
        (lambda: Mesa(criterion, tau=0.0), "tau must be positive"),
        (lambda: Mesa(criterion, start=-1), "start must be an integer at least 0"),
        (lambda: Mesa(criterion, decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: TopSamples(criterion, gamma=0.0), r"gamma must be in \(0, 1\], got 0.0"),
        (lambda: AdversarialInputs(criterion, size=-1.0), "size must be"),
        (lambda: SupervisedContrastive(criterion, tau=0.0), "tau must be positive"),
    ],
)
def test_bad_arguments_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
