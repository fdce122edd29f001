import json

import pytest
import torch
from cases import everything, make, normal, same, seeded, symmetric
from quadratics import quadratic
from torch.nn import functional as F

from landscape.curvature import hessian
from landscape.training.tracker import Measurement, Tracker
from landscape.training.writers import require_writer

TIMES = ("gradient_times", "seconds")


def trained(name, steps, tracker=None):
    """The model and its Tracker's rows after SGD on random batches, from the global random state."""
    case = make(name)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1, momentum=0.9)
    watch = tracker(case) if tracker else None
    torch.manual_seed(1)
    for _ in range(steps):
        picked = torch.randint(64, (16,))
        optimizer.zero_grad()
        F.cross_entropy(case.model(case.inputs[picked]), case.targets[picked]).backward()
        optimizer.step()
        if watch is not None:
            watch.step()
    return case, watch


def numbers(row):
    return {name: value for name, value in vars(row).items() if name not in TIMES}


@pytest.mark.parametrize("name", ["conv_bn", "dropout"])
def test_a_tracked_training_ends_in_the_same_weights_buffers_gradients_and_random_state(name):
    plain, _ = trained(name, 7)
    expected = everything(plain.model)
    watched, tracker = trained(name, 7, lambda case: Tracker(case.problem(), every=2, trace_matvecs=4))
    assert len(tracker.rows) == 3
    assert same(everything(watched.model), expected)


def test_a_row_holds_what_dense_linear_algebra_gives():
    A, b, w = symmetric(torch.linspace(-3, 5, 12)), normal(12), normal(12, seed=1)
    problem = quadratic(A, b, w)
    row = Tracker(problem, every=1, first_matvecs=12, trace_matvecs=12).measure()
    values, vectors = torch.linalg.eigh(A)
    g = A @ w + b
    assert row.loss == pytest.approx(float(0.5 * w @ A @ w + b @ w), rel=1e-12)
    assert row.gradient_norm == pytest.approx(float(g.norm()), rel=1e-12)
    assert row.lambda_max == pytest.approx(float(values[-1]), abs=1e-9)
    assert row.alignment == pytest.approx(float(abs(g @ vectors[:, -1]) / g.norm()), rel=1e-6)
    assert (row.trace, row.trace_stderr) == (pytest.approx(float(A.trace()), rel=1e-9), 0.0)
    assert Tracker(problem, every=1, which="SA", first_matvecs=12).measure().lambda_max == pytest.approx(-3, abs=1e-9)


def test_the_surrogate_gap_and_the_directions_have_closed_forms_on_a_quadratic():
    """h = rho |g| + rho² ĝᵀAĝ / 2, hence 2(h − rho |g|)/rho² = ĝᵀAĝ; g' = g + rho A ĝ."""
    A, b, w, e, rho = symmetric(torch.linspace(-3, 5, 12)), normal(12), normal(12, seed=1), normal(12, seed=2), 0.3
    row = Tracker(quadratic(A, b, w), every=1, rho=rho, perturbation=lambda: e, first_matvecs=12).measure()
    g, v = A @ w + b, torch.linalg.eigh(A)[1][:, -1]
    unit = g / g.norm()
    g_adv = g + rho * A @ unit
    h = float(rho * g.norm() + rho**2 * unit @ A @ unit / 2)
    assert row.gap == pytest.approx(h, rel=1e-9)
    assert row.gap_lambda == pytest.approx(2 * h / rho**2, rel=1e-9)
    assert row.gap_curvature == pytest.approx(float(unit @ A @ unit), rel=1e-8)
    assert row.cosine == pytest.approx(float(g @ g_adv / g.norm() / g_adv.norm()), rel=1e-12)
    assert row.e_alignment == pytest.approx(float(abs(e @ v) / e.norm()), rel=1e-6)
    assert row.weight_norm == pytest.approx(float(w.norm()), rel=1e-12)


def test_the_critical_sharpness_is_that_of_the_gradient_or_of_the_next_step():
    A, b, w = symmetric(torch.linspace(0.1, 5, 12)), normal(12), normal(12, seed=1)
    problem = quadratic(A, b, w)
    tracker = Tracker(problem, every=1, critical=True)
    first, second = tracker.measure(), tracker.measure()
    g = A @ w + b
    exact = float(g @ A @ g / (g @ g))
    assert first.critical_sharpness == pytest.approx(exact, rel=0.05)
    assert second.critical_sharpness == pytest.approx(exact, rel=0.05)
    optimizer = torch.optim.SGD([{"params": problem.model.parameters()}], lr=0.1, weight_decay=0.3)
    update = g + 0.3 * w
    row = Tracker(problem, every=1, critical=True, optimizer=optimizer).measure()
    assert row.critical_sharpness == pytest.approx(float(update @ A @ update / (update @ g)), rel=0.05)
    assert Tracker(problem, every=1).measure().critical_sharpness is None


def test_where_there_is_no_critical_sharpness_the_row_says_nan():
    flat = torch.zeros(12, 12).double()
    row = Tracker(quadratic(flat, normal(12), normal(12, seed=1)), every=1, critical=True).measure()
    assert row.critical_sharpness != row.critical_sharpness
    assert row.lambda_max == 0


def test_at_a_minimum_along_the_sharpest_direction_the_gap_gives_the_top_eigenvalue():
    A = symmetric(torch.linspace(0, 5, 12))
    v = torch.linalg.eigh(A)[1][:, -1]
    row = Tracker(quadratic(A, torch.zeros(12).double(), 1e-9 * v), every=1, rho=0.1, first_matvecs=12).measure()
    assert row.gap_lambda == pytest.approx(5, rel=1e-6)


def test_without_a_radius_and_a_perturbation_they_are_left_out():
    row = Tracker(make("mlp").problem(), every=1, matvecs=2).measure()
    assert {row.gap, row.gap_lambda, row.gap_curvature, row.cosine, row.e_alignment} == {None}


@pytest.mark.parametrize(("trace_matvecs", "warm"), [(0, 5), (6, 11)])
def test_the_cost_is_the_one_stated(trace_matvecs, warm):
    tracker = Tracker(make("mlp").problem(), every=1, matvecs=5, first_matvecs=9, trace_matvecs=trace_matvecs)
    rows = [tracker.step() for _ in range(3)]
    assert [row.matvecs for row in rows] == [9 + trace_matvecs, warm, warm]
    assert all(row.gradient_times > 1 for row in rows)
    assert (rows[0].trace is None) == (trace_matvecs == 0)


def test_warm_starts_follow_the_top_eigenvalue_within_the_residual():
    def tracker(case):
        return Tracker(case.problem(), every=5, matvecs=6)

    case, watch = trained("mlp", 5, tracker)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(case.model(case.inputs), case.targets).backward()
        optimizer.step()
        row = watch.step()
        if row is not None:
            exact = torch.linalg.eigvalsh(hessian(case.problem()).dense())
            assert (exact - row.lambda_max).abs().min() <= row.residual + 1e-12
            assert row.lambda_max == pytest.approx(float(exact[-1]), rel=1e-2)
            assert row.matvecs == 6


def test_a_direction_that_overtakes_the_last_one_is_found():
    first = torch.diag(torch.cat([torch.tensor([4.0, 3.0]), torch.linspace(0, 1, 18)]).double())
    second = first.clone()
    second[1, 1] = 6.0
    problems = [quadratic(first), quadratic(second)]
    tracker = Tracker(lambda: problems.pop(0), every=1)
    assert tracker.step().lambda_max == pytest.approx(4, abs=1e-3)
    tracker._vector = torch.eye(20, dtype=torch.float64)[0] + 1e-9 * normal(20)  # as after a long run
    assert tracker.step().lambda_max == pytest.approx(6, abs=1e-3)


def planted(top, seed, size=100):
    """A matrix with these leading eigenvalues over a bulk in [0, 1], and its eigenvectors; a seed fixes the latter."""
    Q = torch.linalg.qr(normal(size, size, seed=seed))[0]
    values = torch.cat([torch.tensor(top).double(), torch.linspace(0, 1, size - len(top)).double()])
    return (Q * values) @ Q.T, Q


@pytest.mark.parametrize("seed", range(8))
def test_noise_lets_four_products_leave_an_exact_eigenvector_that_was_overtaken(seed):
    problems = [quadratic(planted([4.0, other], seed)[0]) for other in (3.0, 6.0)]
    tracker = Tracker(lambda: problems.pop(0), every=1, matvecs=4, generator=seeded(seed))
    tracker.step()
    tracker._vector = planted([4.0, 3.0], seed)[1][:, 0].clone()  # exact: alone it would never be left
    row = tracker.step()
    assert row.matvecs == 4
    assert abs(row.lambda_max - 6) < abs(row.lambda_max - 4)
    assert abs(row.lambda_max - 6) <= row.residual


@pytest.mark.parametrize("matvecs", [2, 3, 4, 6, 9])
def test_the_residual_holds_an_eigenvalue_however_few_the_products(matvecs):
    """The stated error: |A v - λ v| for the row's own v, hence an eigenvalue within it, be it the largest or not."""
    for seed in range(4):
        first, second = (planted([4.0, other], seed)[0] for other in (3.0, 4.5))
        problems = [quadratic(first), quadratic(second), quadratic(second)]
        tracker = Tracker(lambda problems=problems: problems.pop(0), every=1, matvecs=matvecs, generator=seeded(seed))
        for A in (first, second, second):
            row, v = tracker.step(), tracker._vector
            assert (A @ v - row.lambda_max * v).norm() <= row.residual + 1e-12
            assert (torch.linalg.eigvalsh(A) - row.lambda_max).abs().min() <= row.residual + 1e-12
            assert row.lambda_max <= torch.linalg.eigvalsh(A)[-1] + 1e-12


def test_on_operators_that_change_with_every_batch_it_follows_the_present_one():
    """Weyl: the largest eigenvalue of A + E is within |E| of A's."""
    A, _ = planted([4.0, 3.0], 0)
    noise = [0.03 * (E + E.T) for E in (normal(100, 100, seed=seed) for seed in range(10))]
    problems = [quadratic(A + E) for E in noise]
    tracker = Tracker(lambda: problems.pop(0), every=1)
    for E in noise:
        row, exact = tracker.step(), float(torch.linalg.eigvalsh(A + E)[-1])
        assert abs(row.lambda_max - exact) <= row.residual + 1e-9
        assert abs(row.lambda_max - 4) <= float(torch.linalg.matrix_norm(E, 2)) + row.residual
        assert row.residual < 0.1


def test_rows_come_every_n_steps_however_they_are_counted():
    problem = make("mlp").problem()
    counting, told = Tracker(problem, every=3, matvecs=2), Tracker(problem, every=3, matvecs=2)
    assert [counting.step() is not None for _ in range(7)] == [False, False, True, False, False, True, False]
    assert [step for step in range(8) if told(step) is not None] == [3, 6]
    assert [row.step for row in counting.rows] == [row.step for row in told.rows] == [3, 6]


def test_a_resumed_tracker_ends_with_the_same_rows_and_log(tmp_path):
    problem = make("mlp").problem()
    settings = {"every": 2, "matvecs": 3, "trace_matvecs": 4}
    whole = Tracker(problem, **settings, generator=seeded(5))
    for _ in range(8):
        whole.step()
    killed = Tracker(problem, **settings, generator=seeded(5), log=tmp_path / "log" / "rows.jsonl")
    for _ in range(5):
        killed.step()
    torch.save(killed.state_dict(), tmp_path / "state.pt")
    killed.step()  # lost when the process dies here
    resumed = Tracker(problem, **settings, log=tmp_path / "log" / "rows.jsonl")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        resumed.step()
    assert [numbers(row) for row in resumed.rows] == [numbers(row) for row in whole.rows]
    lines = (tmp_path / "log" / "rows.jsonl").read_text().splitlines()
    assert [Measurement(**json.loads(line)) for line in lines] == resumed.rows


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every must be an integer at least 1, got 0"),
        ({"every": 1, "matvecs": 1}, "matvecs must be an integer at least 2, got 1"),
        ({"every": 1, "trace_matvecs": 3}, "trace_matvecs must be 0 or at least 4, got 3"),
        ({"every": 1, "which": "XX"}, "which must be one of"),
        ({"every": 1, "rho": -0.1}, "rho must be finite and at least 0, got -0.1"),
    ],
)
def test_arguments_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Tracker(make("mlp").problem(), **settings)


class Forbidden:
    def __iter__(self):
        raise AssertionError("the data was read")


def test_making_a_tracker_reads_no_data():
    tracker = Tracker(make("mlp").problem(data=Forbidden()), every=1)
    with pytest.raises(AssertionError, match="the data was read"):
        tracker.step()


def test_a_problem_of_another_size_starts_anew():
    case = make("mlp")
    problems = [case.problem(), case.problem(parameters=["0.weight"])]
    expected = torch.linalg.eigvalsh(hessian(problems[1]).dense())[-1]
    tracker = Tracker(lambda: problems.pop(0), every=1)
    tracker.step()
    assert tracker.step().lambda_max == pytest.approx(float(expected), rel=1e-3)


def test_a_row_holds_the_curvature_as_adam_sees_it_and_a_resumed_tracker_goes_on_with_it(tmp_path):
    case = make("mlp")
    optimizer = torch.optim.Adam(case.model.parameters(), lr=0.01, eps=1e-3)
    tracker = Tracker(case.problem(), every=2, matvecs=6, optimizer=optimizer)
    for step in range(6):
        if step == 3:
            torch.save(tracker.state_dict(), tmp_path / "state.pt")
            state = torch.load(tmp_path / "state.pt", weights_only=True)
            tracker = Tracker(case.problem(), every=2, matvecs=6, optimizer=optimizer)
            tracker.load_state_dict(state)
        optimizer.zero_grad()
        F.cross_entropy(case.model(case.inputs), case.targets).backward()
        optimizer.step()
        row = tracker.step()
        if row is not None:
            P = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in case.model.parameters()])
            P = (P / (1 - 0.999 ** (step + 1))).sqrt() + 1e-3
            exact = torch.linalg.eigvals(hessian(case.problem()).dense() / P[:, None]).real
            assert (exact - row.preconditioned).abs().min() <= row.preconditioned_residual + 1e-9
            assert row.preconditioned == pytest.approx(float(exact.max()), rel=1e-2)
            assert row.threshold == pytest.approx(3800)
    assert [row.matvecs for row in tracker.rows[1:]] == [12, 12]


def test_under_gradient_descent_the_column_costs_nothing():
    case = make("mlp")
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1, momentum=0.9)
    row = Tracker(case.problem(), every=1, optimizer=optimizer).measure()
    assert (row.preconditioned, row.threshold) == (row.lambda_max, pytest.approx(38))
    assert row.matvecs == Tracker(case.problem(), every=1).measure().matvecs


def test_a_state_from_before_the_column_is_taken_up():
    tracker = Tracker(make("mlp").problem(), every=1, matvecs=2)
    tracker.step()
    state = tracker.state_dict()
    del state["preconditioned_vector"]
    new = ("preconditioned", "preconditioned_residual", "threshold")
    state["rows"] = [{key: own for key, own in row.items() if key not in new} for row in state["rows"]]
    tracker.load_state_dict(state)
    assert tracker.rows[0].preconditioned is None


def test_what_can_be_told_nothing_is_refused():
    with pytest.raises(ValueError, match=r"writer must have add_scalar.*got str; pass a SummaryWriter or wandb.log"):
        require_writer("runs")


class Recorder:
    """As a SummaryWriter."""

    def __init__(self):
        self.told = []

    def add_scalar(self, tag, value, step):
        self.told.append((tag, value, step))


def test_a_writer_is_told_every_row_without_what_was_not_asked_for():
    recorder, logged = Recorder(), []
    for writer in (recorder, lambda values, step: logged.append((values, step))):
        tracker = Tracker(make("mlp").problem(), every=2, matvecs=2, rho=0.1, writer=writer)
        for _ in range(5):
            tracker.step()
    rows = [vars(row) for row in tracker.rows]
    left_out = {
        "step",
        "e_alignment",
        "trace",
        "trace_stderr",
        "preconditioned",
        "preconditioned_residual",
        "threshold",
        "critical_sharpness",
    }
    assert [step for _, step in logged] == [2, 4]
    assert [values for values, _ in logged] == [
        {f"curvature/{key}": row[key] for key in row.keys() - left_out} for row in rows
    ]
    for tag, value, step in recorder.told:
        if tag.removeprefix("curvature/") not in TIMES:
            assert {own: values for values, own in logged}[step][tag] == value
    assert len(recorder.told) == sum(len(values) for values, _ in logged)


def test_tensorboard_reads_what_was_told(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        tracker = Tracker(make("mlp").problem(), every=2, matvecs=2, writer=writer)
        for _ in range(4):
            tracker.step()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("curvature/lambda_max")
    assert [(event.step, event.value) for event in events] == [
        (row.step, pytest.approx(row.lambda_max, rel=1e-6)) for row in tracker.rows
    ]
