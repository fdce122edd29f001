"""Replays give what calls give: on the CPU by a stand-in that runs recorded operations again, on a GPU as they are."""

from weakref import ref

import pytest
import torch
from cases import make, seeded
from recorder import Recorder
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import landscape as ls
from landscape.autograd import cuda_graphs
from landscape.autograd.cuda_graphs import FLAG, Replayed

CPU = torch.device("cpu")
OPERATORS = {
    "hessian": ls.hessian,
    "ggn": ls.ggn,
    "sampled": lambda problem, **how: ls.fisher(problem, "sampled", **how),
}
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture
def recorders(monkeypatch):
    """The flag is set, and recordings are made by the stand-in."""
    made = []

    def new(device):
        made.append(Recorder(device))
        return made[-1]

    monkeypatch.setenv(FLAG, "1")
    monkeypatch.setattr(cuda_graphs, "CudaGraphs", new)
    return made


def vectors(size, count=5):
    return [torch.randn(size, generator=seeded(i)).double() for i in range(count)]


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "frozen_unused"])
@pytest.mark.parametrize("kind", OPERATORS)
def test_products_from_the_third_pass_on_are_replayed(kind, name, recorders, monkeypatch):
    problem = make(name).problem()
    H = OPERATORS[kind](problem)
    found, replays = [], []
    for v in vectors(problem.size):
        found.append(H @ v)
        replays.append(H.report.replays)
    assert replays == [0, 0, 0, 2, 2]  # built, recorded, proven, and then
    assert H.report.not_replayed == ""
    monkeypatch.delenv(FLAG)
    plain = OPERATORS[kind](problem)
    for v, image in zip(vectors(problem.size), found, strict=True):
        torch.testing.assert_close(image, plain @ v, rtol=1e-10, atol=1e-13)
    assert min(map(len, recorders[0].operations)) > 10


def test_every_number_of_columns_has_a_recording_of_its_own(recorders):
    problem = make("mlp").problem()
    H, expected = ls.hessian(problem, chunk=2), ls.hessian(problem).dense()
    for i in range(4):
        V = torch.randn(problem.size, 3, generator=seeded(i)).double()
        torch.testing.assert_close(H @ V, expected @ V, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(H @ V[:, 0], expected @ V[:, 0], rtol=1e-10, atol=1e-13)
    assert H.report.replays == 2
    assert len(recorders[0].operations) == 4


def test_replays_stay_where_the_operator_was_made(recorders):
    problem = make("conv_bn").problem(batch_norm="recompute")
    H, first = ls.hessian(problem), vectors(problem.size)[0]
    before = H @ first
    for v in vectors(problem.size):
        H @ v
    with torch.no_grad():
        for tensor in [*problem.model.parameters(), *problem.model.buffers()]:
            tensor.copy_(tensor + 1)
    torch.testing.assert_close(H @ first, before, rtol=1e-10, atol=1e-13)
    assert H.report.replays == 2


class Tanh(torch.autograd.Function):
    """Its second derivative reads a number on the host, or draws one, or depends on a count of calls."""

    way = ""
    calls = 0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, slope):
        return Slope.apply(ctx.saved_tensors[0], slope)


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return slope * (1 - x.tanh() ** 2)

    @staticmethod
    def backward(ctx, u):
        x, slope = ctx.saved_tensors
        y, factor = x.tanh(), 1.0
        if Tanh.way == "reads" and float(u.sum()) > 1e9:
            raise AssertionError
        if Tanh.way == "draws":
            factor = 1 + 0 * torch.rand(())
        if Tanh.way == "counts":
            Tanh.calls += 1
            factor = 1 + 1e-3 * (Tanh.calls > 5)  # in the proof
        return factor * u * slope * -2 * y * (1 - y**2), u * (1 - y**2)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(Tanh.apply(self.first(x)))


@pytest.mark.parametrize(
    ("way", "said"),
    [("", ""), ("reads", "capturing"), ("draws", "random numbers"), ("counts", "differs from the call")],
)
def test_what_a_recording_would_freeze_is_called_as_ever(way, said, recorders, monkeypatch):
    monkeypatch.setattr(Tanh, "way", way)
    monkeypatch.setattr(Tanh, "calls", 0)
    case = make("mlp")
    data = [(case.inputs, case.targets)]
    H = ls.hessian(ls.Problem(Own().double(), cross_entropy, data), mode="double_backward", verify=False)
    for v in vectors(H.shape[0], 6):
        H @ v
    assert said in H.report.not_replayed
    assert bool(said) == bool(H.report.not_replayed)
    assert H.report.replays == (0 if said else 1)


def test_what_the_network_computes_once_more_in_backward_is_recorded_too(recorders):
    class Saving(Own):
        def forward(self, x):
            return self.last(
                checkpoint(lambda x: self.first(x).tanh(), x, use_reentrant=False, preserve_rng_state=False)
            )

    case, model = make("mlp"), Saving().double()
    H = ls.hessian(ls.Problem(model, cross_entropy, [(case.inputs, case.targets)]))
    found = [H @ v for v in vectors(H.shape[0])]
    plain = ls.hessian(ls.Problem(model, cross_entropy, [(case.inputs, case.targets)]), memory=0)
    for v, image in zip(vectors(H.shape[0]), found, strict=True):
        torch.testing.assert_close(image, plain @ v, rtol=1e-10, atol=1e-13)
    assert H.report.replays == 1


def test_a_first_replay_on_the_recorded_input_proves_nothing():
    graphs, factor = Recorder(CPU), [2.0]
    double = Replayed(lambda x: x * factor[0], graphs)
    x, y = torch.ones(3, 1), torch.arange(3.0)[:, None]
    with graphs.beside():
        for _ in range(4):
            assert torch.equal(double(x), 2 * x)
        assert graphs.replays == 0
        assert torch.equal(double(y), 2 * y)
        assert torch.equal(double(x), 2 * x)
        assert graphs.replays == 1


def test_what_a_recording_reads_lives_as_long_as_it_does():
    graphs, read = Recorder(CPU), [torch.ones(3, 1)]
    watched = ref(read[0])
    double = Replayed(lambda x: x + read[0], graphs, lambda: list(read))
    with graphs.beside():
        double(torch.ones(3, 1))
    graphs.operations[0].clear()  # torch's recordings hold addresses alone
    read.clear()
    assert watched() is not None
    del double
    assert watched() is None


def test_weights_that_are_converted_outside_of_a_recording_are_noticed():
    """The first replay on the input that was recorded would have agreed."""
    graphs, w = Recorder(CPU), torch.ones(3, 1)
    function = Replayed(lambda _: placed * 2, graphs)
    with graphs.beside():
        for placed in (w, w + 1):
            function(placed)
    assert "differs from the call" in graphs.failure


def slices(problem, **how):
    d1, d2 = ls.random_directions(problem, generator=seeded(1))
    return ls.slice_2d(problem, d1, d2, (-1, 1, 3), (-1, 1, 4), progress=False, **how)


@pytest.mark.parametrize("policy", ["eval", "batch"])
@pytest.mark.parametrize("name", ["mlp", "conv_bn", "frozen_unused"])
@pytest.mark.parametrize("subset", [None, 40])
def test_points_from_the_third_on_are_replayed(name, policy, subset, recorders, monkeypatch):
    if policy == "batch" and subset is not None:
        pytest.skip("refused")
    problem = make(name).problem(batch_norm=policy)
    data = {"train": problem.data, "test": problem.data[:1]}
    found = slices(problem, data=data, subset=subset, generator=seeded(3))
    assert found.details["cuda_graphs"] == "20 replays"  # two splits, twelve points
    monkeypatch.delenv(FLAG)
    plain = slices(problem, data=data, subset=subset, generator=seeded(3))
    assert "cuda_graphs" not in plain.details
    for what in ("loss", "accuracy", "loss_stderr"):
        torch.testing.assert_close(getattr(found, what), getattr(plain, what), rtol=1e-10, atol=0, equal_nan=True)


def test_weights_in_two_precisions_are_recorded_with_their_conversion(recorders):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3).double())
    case = make("mlp")
    problem = ls.Problem(
        model, cross_entropy, [(case.inputs.float(), case.targets)], forward=lambda m, x: m[2](m[:2](x).double())
    )
    found = slices(problem)
    assert found.details["cuda_graphs"] == "10 replays"
    w, (d1, d2) = problem.vector(), ls.random_directions(problem, generator=seeded(1))
    assert float(found.loss["train"][3, 2]) == pytest.approx(float(problem.loss(w + d1 + d2)), rel=1e-6)


class Counting(nn.Linear):
    def forward(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x)


def derivative(model, x):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).sum(), leaf, create_graph=True)[0]


@pytest.mark.parametrize(
    ("said", "settings"),
    [
        ("batch-norm statistics", {"batch_norm": "recompute"}),
        ("random numbers", {"forward": lambda model, x: model(x + torch.randn_like(x))}),
        ("random numbers", {"criterion": lambda z, t: cross_entropy(z + torch.randn_like(z), t)}),
        ("changes its modules", {"model": Counting(4, 4)}),
        ("takes derivatives", {"forward": derivative}),
        ("accuracy=", {"accuracy": lambda z, t: float((z.argmax(1) == t).double().mean())}),
        ("capturing", {"forward": lambda model, x: model(x) * (1 if float(x.sum()) < 1e9 else 2)}),
    ],
)
def test_points_that_a_recording_would_freeze_are_called_as_ever(said, settings, recorders, monkeypatch):
    case = make("mlp")
    model, accuracy = settings.pop("model", case.model).double(), settings.pop("accuracy", None)
    criterion = settings.pop("criterion", cross_entropy)
    problem = ls.Problem(model, criterion, case.batches, **settings)
    found = slices(problem, accuracy=accuracy)
    assert found.details["cuda_graphs"].startswith("0 replays; none from then on: ")
    assert said in found.details["cuda_graphs"]
    monkeypatch.delenv(FLAG)
    plain = slices(problem, accuracy=accuracy)
    assert torch.equal(found.loss["train"], plain.loss["train"])
    torch.testing.assert_close(found.accuracy["train"], plain.accuracy["train"], rtol=0, atol=0, equal_nan=True)


def test_points_with_buffers_of_their_own_are_called_as_ever(recorders):
    one, two = make("conv_bn").problem(), make("conv_bn").problem()
    with torch.no_grad():
        two.model[1].running_var.mul_(2)
    found = ls.interpolate(one, two.model, (0, 1, 5), progress=False)
    assert found.details["cuda_graphs"] == "0 replays; none from then on: each point has buffers of its own"
    assert float(found.loss["train"][-1]) == pytest.approx(float(two.loss()), rel=1e-12)


def test_the_host_is_asked_for_nothing_while_a_pass_is_recorded(recorders):
    """Of another criterion than torch's it has to be found out which targets are classes."""
    problem = make("mlp").problem()
    found = slices(ls.Problem(problem.model, lambda z, t: 2 * cross_entropy(z, t), problem.data))
    assert found.details["cuda_graphs"] == "10 replays"
    assert bool(found.accuracy["train"].isfinite().all())


def test_without_a_gpu_the_report_says_why_and_nothing_else_changes(monkeypatch):
    problem = make("mlp").problem()
    v = vectors(problem.size)[0]
    plain = ls.hessian(problem)
    monkeypatch.setenv(FLAG, "1")
    H = ls.hessian(problem)
    for _ in range(4):
        assert torch.equal(H @ v, plain @ v)
    assert (H.report.replays, H.report.not_replayed) == (0, "the weights are on cpu, not on a GPU")
    assert plain.report.not_replayed == ""
    assert "on cpu" in slices(problem).details["cuda_graphs"]


@gpu
@pytest.mark.parametrize("kind", OPERATORS)
def test_products_are_replayed_on_a_gpu(kind, monkeypatch):
    case = make("conv_bn")
    problem = ls.Problem(case.model.cuda(), cross_entropy, case.batches)
    expected = OPERATORS[kind](problem).dense()
    monkeypatch.setenv(FLAG, "1")
    H = OPERATORS[kind](problem)
    for v in vectors(problem.size, 8):
        torch.testing.assert_close(H @ v.cuda(), expected @ v.cuda(), rtol=1e-9, atol=1e-12)
    assert H.report.replays == 2, H.report.not_replayed


@gpu
def test_points_are_replayed_on_a_gpu(monkeypatch):
    case = make("conv_bn")
    problem = ls.Problem(case.model.cuda(), cross_entropy, case.batches)
    expected = slices(problem)
    monkeypatch.setenv(FLAG, "1")
    found = slices(problem)
    assert found.details["cuda_graphs"] == "10 replays"
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.accuracy, expected.accuracy, rtol=0, atol=0)


@gpu
def test_a_recording_that_fails_on_a_gpu_leaves_torch_as_it_was(monkeypatch):
    monkeypatch.setenv(FLAG, "1")
    monkeypatch.setattr(Tanh, "way", "reads")
    case = make("mlp")
    data = [(case.inputs, case.targets)]
    H = ls.hessian(ls.Problem(Own().double().cuda(), cross_entropy, data), mode="double_backward", verify=False)
    for v in vectors(H.shape[0]):
        H @ v.cuda()
    assert H.report.not_replayed.startswith("recording failed")
    assert bool(torch.randn(3, device="cuda").isfinite().all())
    assert bool(torch.randn(2**22, device="cuda").isfinite().all())
