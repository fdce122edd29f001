from itertools import pairwise
from math import sqrt

import pytest
import torch
from rule_cases import EXACT, G, W, random_vector

from landscape.training.rules import esam, sam, ssam_d, ssam_f


def states(rule, gs):
    """e and state of each step."""
    found, state = [], None
    for g in gs:
        e, state = rule.perturb(g, g, state)
        found.append((e, state))
    return found


def test_ssam_f_keeps_the_entries_of_largest_fisher_information_with_the_norm_of_all():
    information = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])
    e, _ = ssam_f(2.6, 0.4, fisher=lambda: information).perturb(W, G, None)
    torch.testing.assert_close(e, 2.6 / sqrt(170) * torch.tensor([3.0, 0, 0, 0, 1.0]).double(), **EXACT)
    e, _ = ssam_f(2.6, 0.0, fisher=lambda: information).perturb(W, G, None)
    assert torch.equal(e, sam(2.6).perturb(W, G, None)[0])


def test_ssam_f_asks_every_period_over_the_whole_training():
    calls = []

    def fisher():
        calls.append(1)
        return torch.arange(5.0) if len(calls) == 1 else -torch.arange(5.0)

    found = states(ssam_f(0.1, 0.4, fisher=fisher, period=3), [G] * 5)
    assert len(calls) == 2
    masks = [state["mask"].tolist() for _, state in found]
    assert masks[0] == masks[2] == [False, False, True, True, True]
    assert masks[3] == masks[4] == [True, True, True, False, False]


def test_ssam_d_drops_the_flattest_entries_and_grows_others():
    g = random_vector(0, 200)
    rule = ssam_d(0.1, 0.3, drop=0.25, period=2)
    (first, kept), (_, same), (second, fresh) = states(rule, [g] * 3)
    before, after = kept["mask"], fresh["mask"]
    assert int(before.sum()) == int(after.sum()) == 140
    assert torch.equal(before, same["mask"])
    left, entered = before & ~after, after & ~before
    assert int(left.sum()) == int(entered.sum()) == 35
    assert g[left].abs().max() < g[before & after].abs().min()
    for e, mask in ((first, before), (second, after)):
        torch.testing.assert_close(e, 0.1 * g / g.norm() * mask, **EXACT)


def test_ssam_d_exchanges_fewer_towards_the_end_and_never_more_than_are_free():
    def exchanged(**settings):
        g = random_vector(0, 200)
        masks = [state["mask"] for _, state in states(ssam_d(0.1, 0.5, drop=0.4, period=1, **settings), [g] * 5)]
        return [int((a & ~b).sum()) for a, b in pairwise(masks)]

    assert exchanged() == [40] * 4
    assert exchanged(total=4) == [34, 20, 6, 0]  # 40 (1 + cos(π t / 4)) / 2
    g = random_vector(0, 200)
    masks = [state["mask"] for _, state in states(ssam_d(0.1, 0.1, drop=1.0, period=1), [g] * 2)]
    assert int((masks[0] & ~masks[1]).sum()) == 20


def test_esam_keeps_entries_with_probability_beta_and_divides_by_it():
    g = random_vector(0, 20000)
    (e, _), (other, _) = states(esam(0.1, 0.6), [g] * 2)
    kept = e != 0
    torch.testing.assert_close(e[kept], (0.1 / 0.6 * g / g.norm())[kept], **EXACT)
    assert abs(kept.double().mean().item() - 0.6) < 4 * sqrt(0.24 / 20000)
    both = (kept & (other != 0)).double().mean().item()  # of independent masks 0.36
    assert abs(both - 0.36) < 4 * sqrt(0.36 * 0.64 / 20000)
    assert torch.equal(esam(0.1, 1.0).perturb(W, G, None)[0], sam(0.1).perturb(W, G, None)[0])


@pytest.mark.parametrize("make", [lambda seed: esam(seed=seed), lambda seed: ssam_d(seed=seed, period=1)])
def test_masks_follow_from_seed_and_step_and_not_from_the_global_state(make):
    g = random_vector(0, 200)
    torch.manual_seed(1)
    first = states(make(0), [g] * 3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = states(make(0), [g] * 3), states(make(1), [g] * 3)
    assert torch.equal(torch.get_rng_state(), before)
    for (a, _), (b, _), (c, _) in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
