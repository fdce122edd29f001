import random
from math import sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape.training.rules import Rule, asam, eigen_sam, fisher_sam, gsam, sam
from landscape.training.step import SharpnessAware

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


def data(seed=0, count=12):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (count,), generator=generator)


def network(*extra):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), *extra, nn.Tanh(), nn.Linear(5, 3)).double()


def closure_for(model, opt, x, y):
    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def wrapped(model, rule, **settings):
    return SharpnessAware(torch.optim.SGD(model.parameters(), **(SGD | settings)), rule, model=model)


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def eigenvectors():
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(43, generator=generator, dtype=torch.float64) for _ in range(4)]


def straight_line(name, steps):
    """The rules once more, tensor by tensor, with SGD written out; nothing from landscape."""
    model = network()
    names, ps = zip(*model.named_parameters(), strict=True)
    momentum = [torch.zeros_like(p) for p in ps]
    for step in range(steps):
        x, y = data(step)
        g = torch.autograd.grad(F.cross_entropy(model(x), y), ps)
        norm = sqrt(sum(float((t**2).sum()) for t in g))
        if name in ("sam", "gsam"):
            e = [0.3 * t / norm for t in g]
        elif name == "asam":
            T = [
                p.detach().abs() + 0.01 if n.endswith("weight") else torch.ones_like(p)
                for n, p in zip(names, ps, strict=True)
            ]
            scaled = sqrt(sum(float(((a * t) ** 2).sum()) for a, t in zip(T, g, strict=True)))
            e = [0.3 * a * a * t / scaled for a, t in zip(T, g, strict=True)]
        elif name == "fisher_sam":
            damped = [t / (1 + 2.0 * t * t) for t in g]
            scale = sqrt(sum(float((a * t).sum()) for a, t in zip(damped, g, strict=True)))
            e = [0.3 * a / scale for a in damped]
        else:
            v = eigenvectors()[step // 3]
            v = [t.view_as(p) for t, p in zip((v / v.norm()).split([p.numel() for p in ps]), ps, strict=True)]
            along = sum(float((a * t).sum()) for a, t in zip(v, g, strict=True)) / norm
            sign = 1.0 if along > 0 else -1.0
            e = [0.3 * (t / norm + 0.2 * sign * (a - along * t / norm)) for a, t in zip(v, g, strict=True)]
        with torch.no_grad():
            for p, shift in zip(ps, e, strict=True):
                p.add_(shift)
        d = torch.autograd.grad(F.cross_entropy(model(x), y), ps)
        if name == "gsam":
            share = sum(float((a * b).sum()) for a, b in zip(g, d, strict=True)) / sum(float((b**2).sum()) for b in d)
            d = [b - 0.4 * (a - share * b) for a, b in zip(g, d, strict=True)]
        with torch.no_grad():
            for p, shift, b, m in zip(ps, e, d, momentum, strict=True):
                p.sub_(shift)
                m.mul_(0.9).add_(b + 0.01 * p)
                p.sub_(0.1 * m)
    return weights(model)


@pytest.mark.parametrize("name", ["sam", "asam", "fisher_sam", "gsam", "eigen_sam"])
def test_ten_steps_equal_the_rule_written_out(name):
    vectors = iter(eigenvectors())
    rule = {
        "sam": sam(0.3),
        "asam": asam(0.3),
        "fisher_sam": fisher_sam(0.3, 2.0),
        "gsam": gsam(0.3, 0.4),
        "eigen_sam": eigen_sam(0.3, 0.2, top=lambda: next(vectors), period=3),
    }[name]
    model = network()
    opt = wrapped(model, rule)
    for step in range(10):
        opt.step(closure_for(model, opt, *data(step)))
    torch.testing.assert_close(weights(model), straight_line(name, 10), rtol=1e-10, atol=1e-10)


def test_sam_on_a_quadratic_has_its_closed_form():
    model = nn.Linear(3, 1, bias=False).double()
    h, w = torch.tensor([1.0, 2.0, 5.0]).double(), weights(model)
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(0.3), model=model)

    def closure():
        opt.zero_grad()
        loss = 0.5 * (h * model.weight[0] ** 2).sum()
        loss.backward()
        return loss

    loss = opt.step(closure)
    expected = w - 0.1 * h * (w + 0.3 * h * w / (h * w).norm())
    torch.testing.assert_close(weights(model), expected, rtol=1e-12, atol=1e-12)
    assert loss.item() == pytest.approx(0.5 * (h * w**2).sum().item(), rel=1e-12)  # that of pass 1


@pytest.mark.parametrize(
    "rule",
    [sam(0.0), sam(0.0, 1), asam(0.0), fisher_sam(0.0), gsam(0.0), eigen_sam(0.0, top=lambda: torch.ones(43).double())],
    ids=lambda rule: rule.name,
)
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_radius_zero_is_the_base_optimiser_to_the_bit(rule, base):
    settings = SGD if base is torch.optim.SGD else {"lr": 0.01, "weight_decay": 0.1}
    plain, ours = network(nn.Dropout(0.5)), network(nn.Dropout(0.5))
    opt = base(plain.parameters(), **settings)
    wrapper = SharpnessAware(base(ours.parameters(), **settings), rule, model=ours)
    for model, optimiser in ((plain, opt), (ours, wrapper)):
        torch.manual_seed(3)
        for step in range(5):
            optimiser.step(closure_for(model, optimiser, *data(step)))
    assert torch.equal(weights(plain), weights(ours))


def test_weight_decay_acts_at_w_and_not_in_e():
    seen = []

    def perturb(w, g, state):
        seen.append(g)
        return torch.ones_like(g), state

    model = network()
    x, y = data()
    gradient = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    w, opt = weights(model), wrapped(model, Rule("mine", perturb, descend=lambda g, g_adv: 0 * g_adv), momentum=0.0)
    opt.step(closure_for(model, opt, x, y))
    assert torch.equal(seen[0], torch.cat([t.reshape(-1) for t in gradient]))
    torch.testing.assert_close(weights(model), w - 0.1 * 0.01 * w, rtol=1e-12, atol=0)


def test_weights_come_back_to_the_bit_when_the_second_pass_raises():
    model = network(nn.BatchNorm1d(5))
    opt, before, calls = wrapped(model, sam(0.3)), weights(model), []
    inner = closure_for(model, opt, *data())

    def closure():
        calls.append(weights(model))
        loss = inner()
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        opt.step(closure)
    assert not torch.equal(calls[1], before)  # it was displaced
    assert torch.equal(weights(model), before)
    assert model[1].num_batches_tracked == 1


def test_batch_norm_statistics_are_those_of_the_first_pass():
    model, plain = network(nn.BatchNorm1d(5)), network(nn.BatchNorm1d(5))
    opt = wrapped(model, sam(0.5), lr=0.0)
    for step in range(3):
        plain(data(step)[0])
        opt.step(closure_for(model, opt, *data(step)))
    for ours, expected in zip(model.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, expected)
    assert model[1].momentum == 0.1
    assert model.training


def test_both_passes_see_the_same_random_numbers_and_leave_them_after_the_first():
    drawn = []

    def perturb(w, g, state):
        torch.rand(5)
        random.random()
        np.random.rand()
        return torch.ones_like(g), state

    model = network()
    opt = wrapped(model, Rule("mine", perturb))
    inner = closure_for(model, opt, *data())

    def closure():
        drawn.append((torch.rand(1).item(), random.random(), np.random.rand()))
        return inner()

    torch.manual_seed(1)
    opt.step(closure)
    opt.step(closure)
    torch.manual_seed(1)
    assert drawn[0] == drawn[1]
    assert drawn[2] == drawn[3]
    assert [drawn[0][0], drawn[2][0]] == [torch.rand(1).item(), torch.rand(1).item()]
    assert drawn[0][1] != drawn[2][1]


def test_a_second_pass_that_draws_more_leaves_no_trace():
    model, calls = network(), []
    opt = wrapped(model, sam(0.1))
    inner = closure_for(model, opt, *data())

    def closure():
        calls.append(1)
        torch.rand(len(calls))
        np.random.rand(len(calls) - 1)
        return inner()

    torch.manual_seed(1)
    numpy = np.random.get_state()[2]
    opt.step(closure)
    after = torch.rand(1)
    assert np.random.get_state()[2] == numpy
    torch.manual_seed(1)
    torch.rand(1)
    assert torch.equal(after, torch.rand(1))


def test_dropout_has_one_mask_a_step():
    masks = []
    model = network(nn.Dropout(0.5))
    model[1].register_forward_hook(lambda _m, _x, output: masks.append(output == 0))
    opt = wrapped(model, sam(0.1))
    for step in range(2):
        opt.step(closure_for(model, opt, *data(step)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


class Branches(nn.Module):
    """Which parameters get a gradient is up to the caller."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.never = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
        self.frozen = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)


@pytest.mark.parametrize(("first", "second"), [("ab", "a"), ("a", "ab"), ("a", "a")])
def test_missing_gradients_count_as_zero_and_unused_parameters_stay_untouched(first, second):
    model, passes, after = Branches(), [], []
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    opt = SharpnessAware(base, sam(0.3), model=model)
    base.register_step_pre_hook(lambda *_: after.append([None if p.grad is None else p.grad.clone() for p in params]))
    params = [model.a, model.b, model.never]

    def closure():
        opt.zero_grad()
        used = first if not passes else second
        passes.append(model.b.detach().clone())
        loss = sum((getattr(model, name) ** 2).sum() for name in used)
        loss.backward()
        return loss

    opt.step(closure)
    n = sqrt(8 if first == "a" else 16)
    expected_a = torch.full((2,), 1 - 0.1 * 2 * (1 + 0.3 * 2 / n), dtype=torch.float64)
    torch.testing.assert_close(model.a.detach(), expected_a, rtol=1e-12, atol=0)
    assert torch.equal(passes[1] - 1 > 0, torch.tensor([first == "ab"] * 2))
    grad_b = after[0][1]
    if "b" not in first + second:
        assert grad_b is None
    elif second == "a":
        assert torch.equal(grad_b, torch.zeros(2, dtype=torch.float64))
    else:
        assert torch.equal(grad_b, torch.full((2,), 2.0, dtype=torch.float64))
    assert after[0][2] is None
    assert torch.equal(model.never, torch.ones(2, dtype=torch.float64))
    assert torch.equal(model.frozen, torch.ones(2, dtype=torch.float64))


def test_frozen_parameters_are_no_part_of_the_flat_vector():
    sizes = []

    def perturb(w, g, state):
        sizes.append(w.numel())
        return torch.ones_like(w), state

    model = Branches()
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), Rule("mine", perturb), model=model)
    for trainable in (True, False):
        model.b.requires_grad_(trainable)

        def closure():
            opt.zero_grad()
            loss = (model.a**2).sum()
            loss.backward()
            return loss

        opt.step(closure)
    assert sizes == [6, 4]


def test_a_closure_that_forgets_to_clear_the_gradients_does_not_add_the_passes_up():
    ours, expected = network(), network()
    x, y = data()
    for model, clear in ((ours, False), (expected, True)):
        opt = wrapped(model, sam(0.3))

        def closure(model=model, clear=clear, opt=opt):
            if clear:
                opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        opt.step(closure)
    assert torch.equal(weights(ours), weights(expected))


def test_accumulation_in_the_closure_equals_the_whole_batch():
    whole, parts = network(), network()
    x, y = data()
    opt = wrapped(whole, sam(0.3))
    opt.step(closure_for(whole, opt, x, y))
    opt = wrapped(parts, sam(0.3))

    def closure():
        opt.zero_grad()
        for a, b in zip(x.split(4), y.split(4), strict=True):
            (F.cross_entropy(parts(a), b) / 3).backward()

    opt.step(closure)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-12, atol=1e-12)


def test_only_the_final_gradient_is_clipped_by_a_hook_of_the_base():
    model, unclipped = network(), network()
    base = torch.optim.SGD(model.parameters(), lr=1.0)
    base.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_(model.parameters(), 0.01) and None)
    opt, other = SharpnessAware(base, gsam(0.3), model=model), wrapped(unclipped, gsam(0.3), lr=1.0, weight_decay=0.0)
    start = weights(model)
    opt.step(closure_for(model, opt, *data()))
    other.step(closure_for(unclipped, other, *data()))
    step, full = weights(model) - start, weights(unclipped) - start
    torch.testing.assert_close(step, 0.01 * full / full.norm(), rtol=1e-3, atol=0)  # torch adds 1e-6 to the norm


@pytest.mark.parametrize("bad_pass", [1, 2])
def test_a_gradient_that_is_not_finite_skips_the_step_and_warns_once(bad_pass):
    model, calls = network(), []
    opt = wrapped(model, sam(0.3))
    good = closure_for(model, opt, *data())
    before = weights(model)

    def closure():
        calls.append(1)
        loss = good()
        if len(calls) == bad_pass:
            model[0].weight.grad[0, 0] = float("inf")
        return loss

    with pytest.warns(UserWarning, match=f"pass {bad_pass} is not finite"):
        opt.step(closure)
    assert torch.equal(weights(model), before)
    assert not opt.state
    calls.clear()
    opt.step(closure)  # a second warning would be an error
    assert torch.equal(weights(model), before)
    opt.step(good)
    assert not torch.equal(weights(model), before)


def test_a_scheduler_works_on_the_wrapper_and_groups_are_shared():
    model = network()
    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    model.register_parameter("extra", extra)
    base = torch.optim.SGD([p for p in model.parameters() if p is not extra], **SGD)
    opt = SharpnessAware(base, sam(0.1), model=model)
    assert isinstance(opt, torch.optim.Optimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)
    opt.step(closure_for(model, opt, *data()))
    scheduler.step()
    assert base.param_groups[0]["lr"] == 0.05
    opt.add_param_group({"params": [extra], "lr": 3.0})
    assert base.param_groups[1]["params"] == [extra]
    assert base.param_groups[1]["momentum"] == 0.9
    assert opt.state is base.state
    assert len(opt.state) == 4


@pytest.mark.parametrize("through_disk", [False, True])
def test_state_dict_resumes_to_the_bit(through_disk, tmp_path):
    def run(steps, model, opt):
        for step in steps:
            opt.step(closure_for(model, opt, *data(step)))

    def make():
        model, calls = network(), []

        def top():
            calls.append(1)
            return weights(model)

        return model, wrapped(model, eigen_sam(0.3, 0.2, top=top, period=4)), calls

    whole, opt, _ = make()
    run(range(6), whole, opt)
    first, opt, _ = make()
    run(range(3), first, opt)
    state = opt.state_dict()
    if through_disk:
        torch.save(state, tmp_path / "opt.pt")
        state = torch.load(tmp_path / "opt.pt", weights_only=True)
    resumed, opt, calls = make()
    resumed.load_state_dict(first.state_dict())
    opt.load_state_dict(state)
    assert opt.param_groups is opt.base.param_groups
    assert opt.state is opt.base.state
    run(range(3, 6), resumed, opt)
    assert torch.equal(weights(resumed), weights(whole))
    assert len(calls) == 1  # at step 4 of the whole training, not at the first step after loading


def test_the_layout_follows_the_parameter_groups():
    seen = []

    def perturb(w, g, state, layout):
        seen.append((w, layout))
        return torch.zeros_like(w), state

    model = network(nn.LayerNorm(5))
    base = torch.optim.SGD(
        [{"params": [model[3].bias, model[1].weight]}, {"params": [model[0].weight], "lr": 0.2}], lr=0.1
    )
    opt = SharpnessAware(base, Rule("mine", perturb, layout=True), model=model)
    before = [p.detach().clone() for p in (model[3].bias, model[1].weight, model[0].weight)]
    opt.step(closure_for(model, opt, *data()))
    w, layout = seen[0]
    assert layout.names == ("3.bias", "1.weight", "0.weight")
    assert layout.is_weight == (False, False, True)
    assert all(torch.equal(a, b) for a, b in zip(layout.unflatten(w), before, strict=True))


def test_a_tied_parameter_counts_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).double()
    model[1].weight = model[0].weight
    sizes = []

    def perturb(w, g, state):
        sizes.append(w.numel())
        return torch.ones_like(w), state

    opt = wrapped(model, Rule("mine", perturb))
    opt.step(closure_for(model, opt, *data()))
    assert sizes == [16]


def test_gradients_are_on_inside_no_grad():
    model = network()
    opt, before = wrapped(model, sam(0.1)), weights(model)
    with torch.no_grad():
        opt.step(closure_for(model, opt, *data()))
    assert not torch.equal(weights(model), before)


def test_errors_say_what_was_expected():
    model, other = network(), network()
    with pytest.raises(ValueError, match="every optimised parameter must belong to model"):
        SharpnessAware(torch.optim.SGD(other.parameters(), lr=0.1), sam(), model=model)
    opt = wrapped(model, sam())
    with pytest.raises(ValueError, match=r"def closure\(\): opt.zero_grad\(\)"):
        opt.step()
    with pytest.raises(ValueError, match="must belong to model"):
        opt.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    assert len(opt.base.param_groups) == 1
    with pytest.raises(ValueError, match="state must be of rule 'sam', got 'gsam'"):
        opt.load_state_dict(wrapped(model, gsam()).state_dict())
    short = wrapped(model, Rule("short", lambda w, g, state: (w[:3], state)))
    with pytest.raises(ValueError, match=r"e of rule 'short' must be \(43,\) float64 on cpu, got \(3,\)"):
        short.step(closure_for(model, short, *data()))
    assert "sam" in repr(opt)
    assert "SGD" in repr(opt)
