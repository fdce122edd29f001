"""What a torch optimiser is relied on for, on every rule with five bases: copies, checkpoints, groups, hooks."""

import copy
import io
import pickle
from functools import partial

import pytest
import pytorch_optimizer
import torch
import torch.nn.functional as F
from step_cases import Asked, closure_for, data, every_rule, network, two_pass_rules, weights, wrapped
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim.optimizer import register_optimizer_step_post_hook

from landscape import vectors
from landscape.linalg.operator import MatrixOperator
from landscape.training.rules import Rule, eigen_sam, exact_fisher_sam, friendly_sam, gsam, looksam, sam, ssam_d, ssam_f
from landscape.training.sharpness_aware.step import SharpnessAware

FIVE = {
    "SGD": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "AdamW": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "RMSprop": partial(torch.optim.RMSprop, lr=0.01, momentum=0.5),
    "Adagrad": partial(torch.optim.Adagrad, lr=0.05),
    "Adadelta": partial(torch.optim.Adadelta, lr=0.5),
}
OF_A_LIBRARY = {  # which keep something beside state and groups
    "LARS": partial(pytorch_optimizer.LARS, lr=0.1, trust_coefficient=0.1, weight_decay=0.01),
    "Lamb": partial(pytorch_optimizer.Lamb, lr=0.01, weight_decay=0.1),
}
BASES = FIVE | OF_A_LIBRARY
VECTOR = torch.randn(53, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def vector(power: int) -> torch.Tensor:
    return VECTOR**power


def rank_one() -> MatrixOperator:
    return MatrixOperator(torch.outer(VECTOR, VECTOR))


# functions that may be copied and pickled, in place of a lambda
ASKING = {
    "exact_fisher_sam": exact_fisher_sam(0.3, 0.1, operator=rank_one),
    "exact_fisher_sam natural": exact_fisher_sam(0.3, 0.1, operator=rank_one, natural=True),
    "eigen_sam": eigen_sam(0.3, 0.2, top=partial(vector, 1), period=2),
    "ssam_f": ssam_f(0.3, fisher=partial(vector, 2), period=2),
}
RULES = every_rule(0.3) | ASKING
TWO_PASSES = two_pass_rules(0.3) | ASKING


def with_bases(names):
    some = [name for name in ("sam", "gsam", "wsam", "friendly_sam", "looksam") if name in names]
    return [(name, base) for name in names for base in FIVE] + [(name, base) for name in some for base in OF_A_LIBRARY]


def pair(name, base):
    model = network(nn.LayerNorm(5))
    return model, SharpnessAware(BASES[base](model.parameters()), RULES[name], model=model)


def run(model, opt, steps):
    for step in steps:
        opt.step(closure_for(model, opt, *data(step)))
    return weights(model)


def from_file(pair):
    return pickle.loads(pickle.dumps(pair))


def by_state(pair):
    """Through a file of states alone, into a wrapper that has not stepped."""
    model, opt = pair
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = network(nn.LayerNorm(5))
    other = SharpnessAware(type(opt.base)(fresh.parameters(), lr=7.0), opt.rule, model=fresh)
    fresh.load_state_dict(saved["model"])
    other.load_state_dict(saved["opt"])
    return fresh, other


@pytest.mark.parametrize(("name", "base"), with_bases(RULES))
@pytest.mark.parametrize("way", [copy.deepcopy, from_file, by_state])
def test_a_copy_steps_alike_and_leaves_the_original_alone(name, base, way):
    model, opt = pair(name, base)
    run(model, opt, range(3))
    model_2, opt_2 = way((model, opt))
    assert opt_2.model is model_2
    assert opt_2.param_groups[0]["params"][0] is next(model_2.parameters())
    at = weights(model)
    found = run(model_2, opt_2, range(3, 6))
    assert torch.equal(weights(model), at)
    assert torch.equal(run(model, opt, range(3, 6)), found)
    assert type(opt.base).__name__ in repr(opt_2)


@pytest.mark.parametrize(("name", "base"), with_bases(RULES))
def test_freezing_thawing_and_adding_parameters(name, base):
    """No raw error, finite weights, and what is frozen stays; a rule's vectors are never of other parameters."""
    model = network(nn.LayerNorm(5))
    late = [*model[3].parameters()]
    opt = SharpnessAware(BASES[base]([p for p in model.parameters() if p not in set(late)]), RULES[name], model=model)
    asks = RULES[name].name in ASKING  # whose vector is of all parameters
    if asks:
        opt.add_param_group({"params": late})
    run(model, opt, range(2))
    if not asks:
        model[0].requires_grad_(False)
        at = weights(model[0])
        run(model, opt, range(2, 4))
        assert torch.equal(weights(model[0]), at)
        model[0].requires_grad_(True)
        opt.add_param_group({"params": late})
    before = weights(model[3])
    assert run(model, opt, range(4, 7)).isfinite().all()
    assert not torch.equal(weights(model[3]), before)


def in_two_calls(model, opt, step):
    for call in (opt.first_step, opt.second_step):
        opt.zero_grad()
        F.cross_entropy(model(data(step)[0]), data(step)[1]).backward()
        call()


def scaled(model, opt, step):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    def closure():
        opt.zero_grad()
        scaler.scale(F.cross_entropy(model(data(step)[0]), data(step)[1])).backward()

    opt.step(closure, scaler=scaler)
    scaler.update()


def accumulated(model, opt, step):
    def closure():
        opt.zero_grad()
        for x, y in zip(*(part.split(4) for part in data(step)), strict=True):
            (F.cross_entropy(model(x), y) / 3).backward()

    opt.step(closure)


@pytest.mark.parametrize(("name", "base"), with_bases(TWO_PASSES))
def test_two_calls_scaler_and_accumulation_equal_one_closure(name, base):
    expected = run(*pair(name, base), range(3))
    for way in (in_two_calls, scaled, accumulated):
        model, opt = pair(name, base)
        for step in range(3):
            way(model, opt, step)
        torch.testing.assert_close(weights(model), expected, rtol=1e-9, atol=1e-10)


def test_functions_that_a_copy_would_share_or_pickle_cannot_find_are_named():
    for rule in (eigen_sam(top=lambda: None), ssam_f(fisher=lambda: VECTOR)):
        with pytest.raises(ValueError, match=f"SharpnessAware with rule '{rule.name}' cannot be copied: (top|fisher)"):
            copy.deepcopy(wrapped(network(), rule))
    mine = Rule("mine", lambda _w, g, state: (0.1 * g, state))
    copy.deepcopy(wrapped(network(), mine))  # a function of its arguments alone
    with pytest.raises(ValueError, match=r"rule 'mine' cannot be pickled: .*functools.partial"):
        pickle.dumps(wrapped(network(), mine))


class Counted(nn.Linear):
    """How often it was pickled."""

    count = 0

    def __reduce_ex__(self, protocol):
        Counted.count += 1
        return super().__reduce_ex__(protocol)


def of_network(model):
    return model.weight


def test_what_a_rule_asks_is_pickled_once():
    pickle.dumps(wrapped(network(), eigen_sam(top=partial(of_network, Counted(2, 2)))))
    assert Counted.count == 1


STEPS_INSIDE = {
    "step": lambda opt, closure: opt.step(closure),
    "first_step": lambda opt, _: opt.first_step(),
    "the base's": lambda opt, _: opt.base.step(),
    "direction": lambda opt, closure: opt.direction(closure),
}


@pytest.mark.parametrize("call", STEPS_INSIDE)
def test_a_step_inside_a_closure_is_refused_and_the_next_one_is_made(call):
    model, opt = pair("sam", "SGD")
    plain, at = closure_for(model, opt, *data()), weights(model)

    def closure():
        plain()
        STEPS_INSIDE[call](opt, plain)

    with pytest.raises(ValueError, match="a closure only computes the loss and calls backward; make the step outside"):
        opt.step(closure)
    assert torch.equal(weights(model), at)
    assert torch.equal(run(model, opt, [0]), run(*pair("sam", "SGD"), [0]))


def test_between_two_calls_there_is_nothing_to_copy():
    model, opt = pair("sam", "SGD")
    closure_for(model, opt, *data())()
    opt.first_step()
    with pytest.raises(ValueError, match="must not be copied between first_step and second_step"):
        copy.deepcopy(opt)
    opt.restore()
    copy.deepcopy(opt)


# --- state


def test_a_plain_optimisers_state_is_taken_over_and_groups_stay_shared():
    model, plain = network(), network()
    base = FIVE["SGD"](plain.parameters())
    closure_for(plain, base, *data())()
    base.step()
    opt = wrapped(model, sam(0.0), lr=5.0)
    model.load_state_dict(plain.state_dict())
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)
    opt.load_state_dict(copy.deepcopy(base.state_dict()))
    assert opt.param_groups[0]["lr"] == 0.1
    assert opt.param_groups is opt.base.param_groups
    for step in range(3):
        opt.step(closure_for(model, opt, *data(step)))
        scheduler.step()
        closure_for(plain, base, *data(step))()
        base.step()
        base.param_groups[0]["lr"] *= 0.5
    assert torch.equal(weights(model), weights(plain))
    opt.base.load_state_dict(base.state_dict())  # past the wrapper
    assert opt.param_groups is opt.base.param_groups
    assert opt.state is opt.base.state


def test_the_state_of_version_0_1_is_read():
    model, opt = pair("friendly_sam", "SGD")
    run(model, opt, range(2))
    state = copy.deepcopy(opt.state_dict())
    base = {key: state[key] for key in ("state", "param_groups")}
    old = {"base": base, "rule": "friendly_sam", "rule_state": state["rule"]["state"]}
    model_2, other = pair("friendly_sam", "SGD")
    model_2.load_state_dict(model.state_dict())
    other.load_state_dict(old)
    assert torch.equal(run(model_2, other, range(2, 4)), run(model, opt, range(2, 4)))


def test_a_state_that_does_not_fit_changes_nothing():
    model, opt = pair("friendly_sam", "SGD")
    run(model, opt, range(1))
    state, mean = opt.state_dict(), opt.rule_state["mean"]
    state = {**state, "param_groups": state["param_groups"] * 2, "rule": {**state["rule"], "state": None}}
    with pytest.raises(ValueError, match="number of parameter groups"):
        opt.load_state_dict(state)
    assert opt.rule_state["mean"] is mean


@pytest.mark.filterwarnings("ignore:.*torch.distributed.*:UserWarning", "ignore::FutureWarning")
def test_a_distributed_checkpoint_reads_it():
    model, opt = pair("gsam", "AdamW")
    state = get_optimizer_state_dict(model, opt)  # of an optimiser without a step: torch makes one with zeros
    assert set(state["state"]) == {name for name, _ in model.named_parameters()}
    run(model, opt, range(2))
    saved = copy.deepcopy(get_optimizer_state_dict(model, opt))
    model_2, other = pair("gsam", "AdamW")
    model_2.load_state_dict(model.state_dict())
    set_optimizer_state_dict(model_2, other, saved)
    assert torch.equal(run(model_2, other, range(2, 4)), run(model, opt, range(2, 4)))


def test_hooks_of_states():
    _, opt = pair("sam", "SGD")
    opt.register_state_dict_post_hook(lambda _, state: {**state, "note": 1})
    opt.register_load_state_dict_pre_hook(lambda _, state: {k: v for k, v in state.items() if k != "note"})
    seen = []
    opt.register_state_dict_pre_hook(seen.append)
    opt.register_load_state_dict_post_hook(seen.append)
    state = opt.state_dict()
    assert state["note"] == 1
    assert set(state) == {"state", "param_groups", "rule", "note"}
    opt.load_state_dict(state)
    assert seen == [opt, opt]
    assert state["note"] == 1


# --- hooks of steps


@pytest.mark.parametrize("form", ["closure", "two calls"])
def test_step_hooks_run_once_a_step(form):
    model, opt = pair("sam", "SGD")
    calls = []
    handles = [
        opt.register_step_pre_hook(lambda o, *_: calls.append(("pre", o is opt))),
        opt.register_step_post_hook(lambda o, *_: calls.append(("post", o is opt))),
        register_optimizer_step_post_hook(lambda o, *_: calls.append(("everywhere", o is opt.base))),
    ]
    for step in range(2):
        if form == "closure":
            run(model, opt, [step])
        else:
            for call in (opt.first_step, opt.second_step):
                closure_for(model, opt, *data(step))()
                call()
    assert calls == 2 * [("pre", True), ("post", True), ("everywhere", True)]
    for handle in handles:
        handle.remove()
    run(model, opt, [2])
    assert len(calls) == 6


def test_a_subclass_is_hooked_once_too():
    class Mine(SharpnessAware):
        def step(self, closure=None, **settings):
            return super().step(closure, **settings)

    model, calls = network(), []
    opt = Mine(FIVE["SGD"](model.parameters()), sam(0.1), model=model)
    opt.register_step_post_hook(lambda *_: calls.append(1))
    run(model, opt, range(2))
    assert calls == [1, 1]


# --- groups and periods


def test_a_group_has_its_own_radius():
    seen = []

    def closure_of(model, opt):
        def closure():
            opt.zero_grad()
            seen.append([p.detach().clone() for p in model.parameters()])
            F.cross_entropy(model(data()[0]), data()[1]).backward()

        return closure

    model = network()
    groups = [{"params": model[0].parameters(), "rho": 0.1}, {"params": model[2].parameters()}]
    opt = SharpnessAware(torch.optim.SGD(groups, lr=0.0), sam(0.4), model=model)
    opt.step(closure_of(model, opt))
    moved = [(b - a) for a, b in zip(*seen, strict=True)]
    g = torch.autograd.grad(F.cross_entropy(model(data()[0]), data()[1]), list(model.parameters()))
    norm = torch.cat([part.flatten() for part in g]).norm()
    for index, (e, part) in enumerate(zip(moved, g, strict=True)):
        torch.testing.assert_close(e, (0.1 if index < 2 else 0.4) * part / norm, rtol=1e-10, atol=1e-14)


def test_a_radius_of_a_group_that_a_rule_cannot_have_is_refused():
    for rule, words in ((sam(0.1, steps=3), "not proportional to rho"), (sam(0.0), "radius 0 has no direction")):
        model = network()
        opt = SharpnessAware(torch.optim.SGD([{"params": model.parameters(), "rho": 0.2}], lr=0.1), rule, model=model)
        with pytest.raises(ValueError, match=words):
            run(model, opt, [0])


def test_every_second_step_is_the_rules():
    model, twin = network(), network()
    opt = SharpnessAware(FIVE["SGD"](model.parameters()), friendly_sam(0.3), model=model, every=2)
    by_hand, passes = wrapped(twin, friendly_sam(0.3)), []
    for step in range(5):
        count = len(passes)
        opt.step(closure_for(model, opt, *data(step), passes=passes))
        assert len(passes) - count == (2 if step % 2 == 0 else 1)
        closure = closure_for(twin, by_hand, *data(step))
        if step % 2 == 0:
            by_hand.step(closure)
        else:
            closure()
            by_hand.base.step()
    assert torch.equal(weights(model), weights(twin))
    again = SharpnessAware(FIVE["SGD"](model.parameters()), friendly_sam(0.3), model=model, every=2)
    again.load_state_dict(opt.state_dict())
    again.step(closure_for(model, again, *data(), passes=passes))
    assert len(passes) == 5 + 3 + 1  # step 5 is the base's


# --- parameters that change


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()

    def forward(self, x):
        return self.a(x) + self.b(x).tanh()


KEEPING = {
    "friendly_sam": lambda: friendly_sam(0.5),
    "looksam": lambda: looksam(0.5, period=4),
    "ssam_d": lambda: ssam_d(0.5, period=4),
}


@pytest.mark.parametrize("name", KEEPING)
def test_the_kept_vectors_follow_the_names(name):
    """Groups in another order, as a checkpoint of another script has them: entries move with their parameters."""
    model, twin = Two(), Two()
    one = wrapped(model, KEEPING[name](), weight_decay=0.0)
    run(model, one, range(3))
    twin.load_state_dict(model.state_dict())
    groups = [{"params": twin.b.parameters()}, {"params": twin.a.parameters()}]
    two = SharpnessAware(torch.optim.SGD(groups, lr=0.1), KEEPING[name](), model=twin)
    fresh = two.state_dict()
    two.load_state_dict({**fresh, "rule": copy.deepcopy(one.state_dict()["rule"])})
    plain = wrapped(model, KEEPING[name](), momentum=0.0, weight_decay=0.0)
    plain.load_state_dict({**plain.state_dict(), "rule": one.state_dict()["rule"]})
    torch.testing.assert_close(run(twin, two, [3]), run(model, plain, [3]), rtol=1e-12, atol=1e-13)


def test_a_thawed_parameter_makes_a_periodic_rule_look_at_once_and_a_mean_start_there():
    asked, model = [], Two()
    model.b.requires_grad_(False)
    opt = wrapped(model, eigen_sam(0.3, top=lambda: asked.append(1), period=100))
    run(model, opt, range(3))
    model.b.requires_grad_(True)
    run(model, opt, range(2))
    assert len(asked) == 2
    model, passes = Two(), []
    model.b.requires_grad_(False)
    opt = wrapped(model, looksam(0.3, period=100))
    run(model, opt, range(3))
    model.b.requires_grad_(True)
    opt.step(closure_for(model, opt, *data(), passes=passes))
    assert len(passes) == 2
    opt.step(closure_for(model, opt, *data(), passes=passes))
    assert len(passes) == 3
    model = Two()
    model.b.requires_grad_(False)
    opt = wrapped(model, friendly_sam(0.3))
    run(model, opt, range(3))
    model.b.requires_grad_(True)
    g = torch.autograd.grad(F.cross_entropy(model(data()[0]), data()[1]), list(model.parameters()))
    run(model, opt, [0])
    mean = opt.rule_state["mean"]
    torch.testing.assert_close(mean[15:], torch.cat([part.flatten() for part in g[2:]]), rtol=1e-12, atol=1e-14)
    assert "new" not in opt.rule_state


# --- what cannot be


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (torch.optim.LBFGS, "must step along .grad alone, got LBFGS"),
        (lambda p: torch.optim.SGD(p, lr=0.1), "'w', which is complex"),
    ],
)
def test_bases_and_parameters_that_cannot_be_are_refused_when_it_is_made(make, words):
    model = nn.Module()
    model.w = nn.Parameter(torch.ones(3, dtype=torch.cfloat))
    with pytest.raises(ValueError, match=words):
        SharpnessAware(make([model.w]), sam(), model=model)
    model.w = nn.Parameter(torch.eye(3).to_sparse())
    with pytest.raises(ValueError, match="'w', which is sparse"):
        SharpnessAware(torch.optim.SGD([model.w], lr=0.1), sam(), model=model)


def test_a_radius_that_rounds_to_nothing_is_told():
    model = network().float()
    opt = wrapped(model, sam(1e-45))
    with pytest.raises(ValueError, match="e of rule 'sam' must not round to 0, got rho="):
        opt.step(closure_for(model, opt, data()[0].float(), data()[1]))


def test_gsam_in_place_is_the_formula():
    g, g_adv = (torch.randn(9, generator=torch.Generator().manual_seed(s)).double() for s in (1, 2))
    across = g - (g @ g_adv) / (g_adv @ g_adv) * g_adv
    torch.testing.assert_close(gsam(0.1, 0.4).descend(g, g_adv), g_adv - 0.4 * across, rtol=1e-13, atol=1e-14)
    assert torch.equal(gsam(0.1, 0.4).descend(g, 0 * g), -0.4 * g)


# --- a GPU is asked once a step


ONCE = ("sam", "asam", "fisher_sam", "gsam", "reverse_sam", "wsam", "esam", "friendly_sam", "looksam")


@pytest.mark.parametrize("name", ONCE)
def test_on_a_gpu_a_step_waits_once_and_is_the_same(name, monkeypatch):
    (one, plain), (two, waiting) = pair(name, "SGD"), pair(name, "SGD")
    expected = run(one, plain, range(4))
    monkeypatch.setattr(vectors, "SYNCHRONOUS", ())
    for step in range(4):
        with Asked() as asked:
            run(two, waiting, [step])
        assert asked.count == 1
    torch.testing.assert_close(weights(two), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ONCE)
def test_there_a_gradient_that_is_not_finite_skips_the_step_too(name, monkeypatch):
    monkeypatch.setattr(vectors, "SYNCHRONOUS", ())
    model, opt = pair(name, "SGD")
    run(model, opt, range(2))
    at, state = weights(model), copy.deepcopy(opt.rule_state)

    def closure():
        opt.zero_grad()
        (F.cross_entropy(model(data()[0]), data()[1]) * float("nan")).backward()

    with pytest.warns(UserWarning, match="is not finite: step skipped"):
        opt.step(closure)
    assert torch.equal(weights(model), at)
    if state is not None:
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(opt.rule_state[key]), torch.as_tensor(value))


def test_there_a_step_of_radius_zero_is_the_bases(monkeypatch):
    monkeypatch.setattr(vectors, "SYNCHRONOUS", ())
    model, twin = network(), network()
    opt, base = wrapped(model, sam(0.0)), FIVE["SGD"](twin.parameters())
    for step in range(3):
        run(model, opt, [step])
        closure_for(twin, base, *data(step))()
        base.step()
    assert torch.equal(weights(model), weights(twin))


class Joined(nn.DataParallel):
    """The names that wrappers for several processes give."""

    def forward(self, x):
        return self.module(x)


@pytest.mark.parametrize("wrap", [Joined, partial(torch.compile, backend="eager")])
def test_the_state_of_a_wrapped_model_goes_on_without_the_wrapper(wrap):
    plain = network()
    model = wrap(network())
    both = [(m, SharpnessAware(FIVE["SGD"](m.parameters()), friendly_sam(0.3), model=m)) for m in (plain, model)]
    for m, opt in both:
        run(m, opt, range(2))
    fresh = network()
    fresh.load_state_dict(plain.state_dict())
    opt = SharpnessAware(FIVE["SGD"](fresh.parameters()), friendly_sam(0.3), model=fresh)
    opt.load_state_dict(copy.deepcopy(both[1][1].state_dict()))
    assert torch.equal(run(fresh, opt, range(2, 4)), run(*both[0], range(2, 4)))


def test_a_radius_of_a_group_is_a_number_or_none():
    model = network()
    first, *rest = model.parameters()
    for own in (None, "0.1"):
        groups = [{"params": [first], "rho": own}, {"params": rest}]
        opt = SharpnessAware(torch.optim.SGD(groups, lr=0.1), sam(0.3), model=model)
        if own is None:
            same = network()
            alone = SharpnessAware(torch.optim.SGD(same.parameters(), lr=0.1), sam(0.3), model=same)
            assert torch.equal(run(model, opt, [0]), run(same, alone, [0]))
        else:
            with pytest.raises(ValueError, match="rho of a parameter group must be a number"):
                run(model, opt, [0])
