import copy

import oracles
import pytest
import torch
from cases import NAMES, make, normal, seeded
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from landscape.problem import Problem

POLICIES = ["eval", "batch", "recompute"]


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_of_unequal_batches_are_those_of_the_whole(name):
    case = make(name)
    problem = case.problem()
    assert problem.size == len(oracles.vector(case))
    assert torch.equal(problem.vector(), oracles.vector(case))
    torch.testing.assert_close(problem.loss(), oracles.loss_of(case)(oracles.vector(case)).detach(), rtol=1e-12, atol=0)
    assert oracles.relative(problem.gradient(), oracles.gradient(case)) < 1e-9


@pytest.mark.parametrize("name", ["tokens", "class_weights"])
def test_counting_samples_instead_of_units_would_be_wrong(name):
    case = make(name)
    wrong = case.problem(weight=lambda _x, t: len(t)).loss()
    assert abs(wrong - case.problem().loss()) > 1e-4


@pytest.mark.parametrize("policy", POLICIES)
def test_batch_norm_policies(policy):
    case = make("conv_bn")
    problem = case.problem(batch_norm=policy)
    expected = oracles.loss_of(case, policy)(oracles.vector(case)).detach()
    torch.testing.assert_close(problem.loss(), expected, rtol=1e-12, atol=0)
    assert oracles.relative(problem.gradient(), oracles.gradient(case, policy)) < 1e-9
    others = [oracles.gradient(case, other) for other in POLICIES if other != policy]
    assert min(oracles.relative(problem.gradient(), other) for other in others) > 1e-3


def test_recompute_equals_update_bn_for_one_batch():
    case = make("conv_bn")
    problem = case.problem(batch_norm="recompute", data=[(case.inputs, case.targets)])
    updated = copy.deepcopy(case.model)
    update_bn([case.inputs], updated)
    expected = F.cross_entropy(updated.eval()(case.inputs), case.targets)
    torch.testing.assert_close(problem.loss(), expected.detach(), rtol=1e-12, atol=0)


def test_recompute_takes_the_statistics_at_w():
    case = make("conv_bn")
    w = oracles.vector(case) + 0.2
    found = case.problem(batch_norm="recompute").loss(w)
    nn.utils.vector_to_parameters(w, case.model.parameters())
    torch.testing.assert_close(found, oracles.loss_of(case, "recompute")(w).detach(), rtol=1e-12, atol=0)


def test_loss_and_gradient_elsewhere_and_in_one_pass():
    case = make("mlp")
    w = oracles.vector(case) + 0.3
    leaf = w.clone().requires_grad_()
    expected = oracles.loss_of(case)(leaf)
    loss, gradient = case.problem().loss_and_gradient(w)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    assert oracles.relative(gradient, torch.autograd.grad(expected, leaf)[0]) < 1e-12


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_derivatives_where_the_caller_has_switched_them_off(off):
    case = make("mlp")
    expected = oracles.gradient(case)
    with off():
        assert oracles.relative(case.problem().gradient(), expected) < 1e-12


def test_order_and_grouping_of_the_batches_do_not_matter():
    case = make("mlp")
    one_by_one = [(case.inputs[i : i + 1], case.targets[i : i + 1]) for i in range(64)]
    data = [
        case.batches[::-1],
        one_by_one,
        (case.inputs, case.targets),
        [case.inputs, case.targets],
        DataLoader(TensorDataset(case.inputs, case.targets), batch_size=7, shuffle=True),
    ]
    for each in data:
        torch.testing.assert_close(case.problem(data=each).loss(), case.problem().loss(), rtol=1e-12, atol=0)


def test_a_batch_of_weight_zero_is_skipped():
    case = make("tokens")
    ignored = (case.inputs[:5], torch.full((5, 3), -1))
    with_ignored = case.problem(data=[ignored, *case.batches])
    assert with_ignored.loss() == case.problem().loss()
    assert with_ignored.gradient().isfinite().all()


def test_outputs_are_joined_in_the_order_of_the_data():
    case = make("dropout")
    expected = case.model.eval()(case.inputs).detach()
    torch.testing.assert_close(case.problem().outputs(), expected, rtol=1e-12, atol=0)


def test_half_precision_networks_have_a_vector_in_single_precision():
    case = make("mlp")
    single = case.problem().gradient()
    case.model.bfloat16()
    problem = Problem(case.model, case.criterion, (case.inputs.bfloat16(), case.targets))
    assert problem.vector().dtype == problem.gradient().dtype == torch.float32
    assert oracles.relative(problem.gradient(), single) < 0.03


def test_parameters_of_two_dtypes_without_axes_without_entries_and_not_contiguous():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
            self.empty = nn.Parameter(torch.empty(0, 4, dtype=torch.float64))
            self.first = nn.Parameter(normal(5, 4, dtype=torch.float32).T)
            self.second = nn.Parameter(normal(5, 3))

        def forward(self, x):
            return self.scale * torch.tanh((x.float() @ self.first).double()) @ self.second

    case, model = make("mlp"), Odd()
    problem = Problem(model, case.criterion, case.batches)
    assert problem.size == 1 + 0 + 20 + 15
    loss = case.criterion(model(case.inputs), case.targets)
    own = torch.autograd.grad(loss, [model.scale, model.first, model.second])
    expected = torch.cat([g.flatten().double() for g in own])
    assert oracles.relative(problem.gradient(), expected) < 1e-6


def test_a_forward_pass_may_write_into_buffers():
    torch.manual_seed(0)

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3).double()
            self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

        def forward(self, x):
            z = self.linear(x)
            self.mean.mul_(0.9).add_(z.mean())
            return z + self.mean

    case = make("mlp")
    problem = Problem(Counting(), case.criterion, case.batches)
    assert torch.equal(problem.gradient(), problem.gradient())
    assert problem.model.mean == 0


def test_with_data_and_restricted_to_keep_the_rest():
    case = make("tokens")
    problem = case.problem()
    other = problem.with_data(case.batches[:1])
    assert other.loss() == case.problem(data=case.batches[:1]).loss()
    part = problem.restricted_to(["1.bias"])
    torch.testing.assert_close(part.gradient(), problem.gradient()[-5:], rtol=1e-12, atol=0)


class Forbidden:
    def __iter__(self):
        raise AssertionError("the data was read")

    def __len__(self):
        raise AssertionError("the data was read")


def test_a_constructor_reads_no_data():
    problem = make("conv_bn").problem(data=Forbidden(), batch_norm="recompute")
    with pytest.raises(AssertionError, match="the data was read"):
        problem.loss()


def criterion_of(kind):
    return {
        "unreduced": lambda z, t: F.cross_entropy(z, t, reduction="none"),
        "float": lambda z, t: F.cross_entropy(z, t).item(),
        "accuracy": lambda z, t: (z.argmax(1) == t).sum(),
        "nan": lambda z, t: F.cross_entropy(z, t) * float("nan"),
        "infinite": lambda z, t: F.cross_entropy(z, t) / 0,
        "mse": F.mse_loss,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unreduced", r"batch 0: .* must give a scalar mean, got \(60,\) float64; use reduction='mean'"),
        ("float", "batch 0: .* must give a scalar mean, got float"),
        ("accuracy", r"batch 0: .* must give a scalar mean, got \(\) int64"),
        ("nan", "batch 0: the loss is nan; check"),
        ("infinite", "batch 0: the loss is inf; check"),
        ("mse", r"batch 0: criterion on outputs \(60, 3\) float64 and targets \(60,\) int64 failed"),
    ],
)
@pytest.mark.parametrize("call", ["loss", "gradient"])
def test_a_bad_criterion_is_named_in_one_line(kind, message, call):
    case = make("mlp")
    problem = Problem(case.model, criterion_of(kind), case.batches)
    with pytest.raises(ValueError, match=message) as error:
        getattr(problem, call)()
    assert "\n" not in str(error.value)


def test_the_silent_broadcast_of_mse_is_an_error():
    model, x, t = nn.Linear(4, 1).double(), normal(8, 4), normal(8)
    with pytest.raises(ValueError, match=r"outputs \(8, 1\) float64 and targets \(8,\) float64 failed"):
        Problem(model, nn.MSELoss(), (x, t)).loss()


@pytest.mark.parametrize(
    "targets", [torch.zeros(64), torch.zeros(64, 1).long(), torch.full((64,), 3), torch.zeros(63).long()]
)
def test_wrong_targets_are_shown_with_their_shape_and_dtype(targets):
    case = make("mlp")
    dtype = str(targets.dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=f"targets .* {dtype} failed: .*; check the targets' shape and dtype") as error:
        case.problem(data=(case.inputs, targets)).loss()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data must hold at least one batch of positive weight, got none"),
        (
            [normal(4, 4)],
            r"batch 0: expected \(inputs, targets\), got \(4, 4\) float64; say how .* by split=",
        ),
        ([[normal(4, 4)]], r"batch 0: expected \(inputs, targets\), got \(\(4, 4\) float64\)"),
        ([{"ids": normal(4, 4)}], r"batch 0: expected \(inputs, targets\), got dict"),
    ],
)
def test_data_of_another_form_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        make("mlp").problem(data=data).loss()


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_weights_are_finite_and_not_negative(weight):
    with pytest.raises(ValueError, match="batch 0: weight must be finite and at least 0, got"):
        make("mlp").problem(weight=lambda *_: torch.tensor(weight)).loss()


def test_an_unknown_policy_is_named():
    with pytest.raises(ValueError, match=r"batch_norm must be one of 'eval' \| 'batch' \| 'recompute', got 'train'"):
        make("mlp").problem(batch_norm="train")


@pytest.mark.parametrize("w", [normal(50), normal(51, 1), normal(51).float()])
def test_w_must_fit(w):
    with pytest.raises(ValueError, match=r"w must be \(51,\) float64 on cpu, got"):
        make("mlp").problem().loss(w)


@pytest.mark.parametrize("shuffled", ["generator", "sampler"])
def test_reading_the_data_leaves_its_generators_alone(shuffled):
    case, source = make("mlp"), seeded(5)
    data = TensorDataset(case.inputs, case.targets)
    if shuffled == "generator":
        loader = DataLoader(data, batch_size=10, shuffle=True, generator=source)
    else:
        loader = DataLoader(data, batch_size=10, sampler=RandomSampler(data, generator=source))
    before = source.get_state()
    case.problem(data=loader).gradient()
    assert torch.equal(source.get_state(), before)
    next(iter(loader))
    assert not torch.equal(source.get_state(), before)
