"""What a step computes: the rules written out, closed forms and limits."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from step_cases import BASES, closure_for, closure_of, data, every_rule, network, weights, wrapped
from torch import nn

from landscape.training.rules import Rule, asam, eigen_sam, fisher_sam, gsam, rsam, sam
from landscape.training.sharpness_aware.step import SharpnessAware


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
    loss = opt.step(closure_of(opt, lambda: 0.5 * (h * model.weight[0] ** 2).sum()))
    expected = w - 0.1 * h * (w + 0.3 * h * w / (h * w).norm())
    torch.testing.assert_close(weights(model), expected, rtol=1e-12, atol=1e-12)
    assert loss.item() == pytest.approx(0.5 * (h * w**2).sum().item(), rel=1e-12)  # that of pass 1


LIMITS = every_rule(0.0) | {"rsam plain": rsam(plain_steps=5)}
del LIMITS["entropy_sgd"]  # which has no radius


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("base", BASES)
def test_radius_zero_is_the_base_optimiser_to_the_bit(name, base):
    plain, ours = (network(nn.LayerNorm(5), nn.Dropout(0.5)) for _ in range(2))
    opt = base(plain.parameters(), **BASES[base])
    wrapper = SharpnessAware(base(ours.parameters(), **BASES[base]), LIMITS[name], model=ours)
    for model, optimiser in ((plain, opt), (ours, wrapper)):
        torch.manual_seed(3)
        for step in range(5):
            optimiser.step(closure_for(model, optimiser, *data(step)))
    assert torch.equal(weights(plain), weights(ours))


OF_TORCH = [
    kind
    for kind in vars(torch.optim).values()
    if isinstance(kind, type) and kind is not torch.optim.Optimizer and kind.__name__ not in ("LBFGS", "SparseAdam")
]


@pytest.mark.parametrize("kind", OF_TORCH)
def test_every_optimiser_of_torch_is_a_base(kind):
    """With radius 0 to the bit; LBFGS asks for other weights, SparseAdam takes no dense gradient. Muon: matrices."""
    plain, ours, moved = network(), network(), network()
    made = []
    for model in (plain, ours, moved):
        chosen = [p for p in model.parameters() if p.ndim == 2 or kind.__name__ != "Muon"]
        made.append(kind(chosen, lr=0.01))
    made[1:] = [
        SharpnessAware(opt, sam(rho), model=m) for opt, m, rho in zip(made[1:], (ours, moved), (0.0, 0.3), strict=True)
    ]
    for step in range(3):
        for model, opt in zip((plain, ours, moved), made, strict=True):
            closure = closure_for(model, opt, *data(step))
            if opt is made[0]:
                closure()
                opt.step()
            else:
                opt.step(closure)
    assert torch.equal(weights(plain), weights(ours))
    assert weights(moved).isfinite().all()
    assert not torch.equal(weights(plain), weights(moved))


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


@pytest.mark.parametrize("how", ["max_norm", "hook"])
def test_only_the_final_gradient_is_clipped(how):
    model, unclipped = network(), network()
    base = torch.optim.SGD(model.parameters(), lr=1.0)
    if how == "hook":
        base.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_(model.parameters(), 0.01) and None)
    opt = SharpnessAware(base, gsam(0.3), model=model, max_norm=0.01 if how == "max_norm" else None)
    other = wrapped(unclipped, gsam(0.3), lr=1.0, weight_decay=0.0)
    start, passes, full_passes = weights(model), [], []
    opt.step(closure_for(model, opt, *data(), passes))
    other.step(closure_for(unclipped, other, *data(), full_passes))
    step, full = weights(model) - start, weights(unclipped) - start
    torch.testing.assert_close(step, 0.01 * full / full.norm(), rtol=1e-3, atol=0)  # torch adds 1e-6 to the norm
    assert torch.equal(passes[1], full_passes[1])


def test_each_group_has_its_own_learning_rate():
    """One e over both groups; on ½|w|², whose gradient is w, the closed form."""
    model = nn.Linear(3, 2).double()
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias]}]
    opt = SharpnessAware(torch.optim.SGD(groups, lr=0.1), sam(0.3), model=model)
    w = weights(model)
    opt.step(closure_of(opt, lambda: 0.5 * sum((p**2).sum() for p in model.parameters())))
    lr = torch.tensor([0.5] * 6 + [0.1] * 2, dtype=torch.float64)
    torch.testing.assert_close(weights(model), w - lr * (w + 0.3 * w / w.norm()), rtol=1e-12, atol=1e-14)


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
    short = wrapped(model, Rule("short", lambda w, g, state: (w[:3], state)))
    with pytest.raises(ValueError, match=r"e of rule 'short' must be \(43,\) float64 on cpu, got \(3,\)"):
        short.step(closure_for(model, short, *data()))
    with pytest.raises(ValueError, match="max_norm must be positive and finite, got 0"):
        SharpnessAware(opt.base, sam(), model=model, max_norm=0)
    assert "sam" in repr(opt)
    assert "SGD" in repr(opt)
