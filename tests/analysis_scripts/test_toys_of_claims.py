"""The toys whose claims are counted or have intervals: their functions against closed forms, and tiny runs."""

import json
from math import inf, sqrt

import pytest
import torch
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, told
from analysis_scripts._shared.over_seeds import lies_in, share

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_claims_of_one_paper_name_it_once():
    claims = [
        Claim("A", "one", "1", "agrees"),
        Claim("A", "two", "2", "differs"),
        Claim("B", "three", "3", "cannot say"),
    ]
    assert told(claims) == "A: one: agrees, 1; two: differs, 2. B: three: cannot say, 3."


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((1.0, 0.95, 1.05), "agrees"),
        ((1.0, 0.8, 1.05), "cannot say"),
        ((2.0, 1.2, 3.0), "differs"),
        ((0.5, 0.4, 0.8), "differs"),
    ],
)
def test_an_interval_decides_whether_a_number_lies_between_two(found, verdict):
    assert lies_in(found, 0.9, 1.1) == verdict


def test_the_interval_of_a_share_has_its_closed_form_at_the_ends():
    n, edge = 9, 1 - 0.025 ** (1 / 9)  # (1 − p)^n = α/2
    assert share(0, n) == pytest.approx((0, 0, edge))
    assert share(n, n) == pytest.approx((1, 1 - edge, 1))
    low, high = share(3, n)[1:]
    tail = torch.distributions.Binomial(n, tensor(low, high)).log_prob(torch.arange(n + 1.0)[:, None].double()).exp()
    assert [float(tail[3:, 0].sum()), float(tail[:4, 1].sum())] == pytest.approx([0.025, 0.025])


def test_runs_side_by_side_are_those_of_the_optimiser():
    from analysis_scripts.toys.descent import descend

    f = lambda w: (w**2 * tensor(1.0, 5.0)).sum(-1) + w[..., 0].sin()  # noqa: E731
    starts = tensor([0.5, -1.0], [2.0, 0.3])
    for rule in (ls.rules.sam(0.1), ls.rules.gsam(0.1, 0.4)):
        path = descend(f, rule, starts, steps=20, lr=0.02, momentum=0.5)
        model = torch.nn.Module()
        model.w = torch.nn.Parameter(starts[1].clone())
        base = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5)
        optimizer = ls.SharpnessAware(base, rule, model=model)

        def closure(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = f(model.w)
            loss.backward()
            return loss

        for _ in range(20):
            optimizer.step(closure)
        torch.testing.assert_close(path[-1, 1], model.w.detach(), **EXACT)


def small_quadratic(**changes):
    from analysis_scripts.toys.natural_gradient_convergence import Config

    return Config(**{"size": 3, "samples": 5, "smallest": 0.1, "steps": 300, "runs": 40, "groups": 4, **changes})


def test_the_design_has_the_eigenvalues_and_a_step_is_that_of_the_natural_gradient():
    from analysis_scripts.toys.natural_gradient_convergence import regression

    problem = regression(small_quadratic())
    H = ls.hessian(problem).dense()
    torch.testing.assert_close(torch.linalg.eigvalsh(H), tensor(0.1, sqrt(0.1), 1.0), **EXACT)
    torch.testing.assert_close(ls.fisher(problem).dense(), H, **EXACT)
    expected = problem.vector() - 0.5 * torch.linalg.solve(H, problem.gradient())
    optimizer = ls.NaturalGradient(problem.model.parameters(), lr=0.5, damping=0.0, adapt=False, tol=1e-12)
    optimizer.step(problem)
    torch.testing.assert_close(problem.vector(), expected, rtol=1e-8, atol=1e-8)


def test_expected_losses_have_their_closed_forms():
    from analysis_scripts.toys.natural_gradient_convergence import Run, expected, grid

    config, values, start = small_quadratic(), tensor(0.1, 0.4, 1.0), tensor(2.0, -1.0, 3.0)
    k = torch.from_numpy(grid(config)).double()
    least = expected(config, values, start, Run(True, 1.0, 0.0))
    torch.testing.assert_close(least, 3 / (2 * 5 * k), **EXACT)
    plateau = expected(config, values, start, Run(True, 0.5))[-1]
    assert float(plateau) == pytest.approx(0.5 * 3 / (2 * 5 * 1.5))
    # a step's noise stays in θ by the factor a = ½ a step: the sum to k holds (1 − a^(k − i + 1))/(1 − a) of that of i
    one = expected(config, tensor(0.5), tensor(0.0), Run(False, 1.0, averaged=True))
    sums = [sum((2 - 2 * 0.5 ** (own - i + 1)) ** 2 for i in range(1, own + 1)) for own in k.int().tolist()]
    torch.testing.assert_close(one, 0.5 * 0.5 * (0.5 / 5) * tensor(*sums) / k**2, **EXACT)


def test_natural_gradient_convergence(tmp_path):
    from analysis_scripts.toys.natural_gradient_convergence import main

    found = main(small_quadratic(folder=str(tmp_path)))
    assert found["fisher_minus_hessian"] < 1e-12
    ratio = found["of_least_at_end"]["F⁻¹, α = 1/k"]
    assert abs(ratio[0] - 1) < 4 * sqrt(2 / (3 * 40))  # h is a χ² of 3 degrees of freedom, 40 runs
    until = list(found["steps_to_twice_the_least"].values())
    assert until[0] == 1
    assert until[4] < until[5]
    assert found["steps_to_twice_the_least"]["F⁻¹, α = 0.5"] == inf
    assert len(found["claims"]) == 5


def test_f_p_is_the_same_all_along_the_valley_and_only_one_ridge_has_a_saddle():
    from analysis_scripts.toys.gsam_ridge import SADDLE, SLOPING, curvature, ridge, saddle, valley

    y = torch.linspace(0, 4, 5, dtype=torch.float64)
    turn = torch.linspace(0, 6.3, 631, dtype=torch.float64)
    disc = torch.stack([0.2 * turn.cos(), torch.zeros_like(turn)], 1)
    worst = torch.stack([valley(disc + tensor(0.0, own), 0.2).max() for own in y])
    torch.testing.assert_close(worst, torch.zeros_like(y), rtol=0, atol=1e-6)
    floor = valley(torch.stack([torch.zeros_like(y), y], 1), 0.2)
    torch.testing.assert_close(worst - floor, 0.5 * curvature(y) * 0.04, rtol=0, atol=1e-6)
    assert saddle(SLOPING) is None
    at = tensor(0.0, saddle(SADDLE))
    H = torch.autograd.functional.hessian(lambda w: ridge(w, SADDLE), at)
    g = torch.autograd.functional.jacobian(lambda w: ridge(w, SADDLE), at)
    assert g.abs().max() < 2 * H[1, 1] * 5e-4  # the grid's step
    assert H[0, 0] < 0 < H[1, 1]


def test_gsam_ridge(tmp_path):
    from analysis_scripts.toys.gsam_ridge import Config, main

    config = Config(valley_starts=(1.5,), starts=2, drawn=0, steps=350, early=100, folder=str(tmp_path))
    found = main(config)
    assert found["ridge 0.15"]["GD"] == ["sharp", "sharp"]
    gap = {name: own[0] for name, own in found["gap"].items()}
    assert gap["GSAM, α = 0.8"] < gap["GSAM, α = 0.4"] < gap["SAM"]
    assert {path.name for path in tmp_path.iterdir()} == {f"ridge.{end}" for end in ("json", "npz", "png")}


def test_sharpnesses_of_a_diagonal_network_are_those_of_its_hessian():
    from analysis_scripts.toys.adam_implicit_bias import Diagonal
    from analysis_scripts.toys.adam_sparse_regression import measures

    source = torch.Generator().manual_seed(0)
    x, u, v, true = (torch.randn(*size, generator=source, dtype=torch.float64) for size in ((4, 3), (3,), (3,), (3,)))
    data = (x, (x @ true)[:, None])
    problem = ls.Problem(Diagonal(u, v), F.mse_loss, data)
    found = measures(x[None] / 2, u[None], v[None], true[None])  # √4
    assert float(found["trace"]) == pytest.approx(float(ls.metrics.trace(problem).value))
    assert float(found["adam"]) == pytest.approx(float(ls.metrics.adam_sharpness(problem).value))
    assert float(found["error"]) == pytest.approx(float(((u**2 - v**2 - true) ** 2).sum()))


def test_sparse_regression_by_sgd_is_that_of_autograd():
    from analysis_scripts.toys.adam_sparse_regression import Config, regressions, train

    config = Config(inputs=5, nonzero=2, samples=(3, 4), noise=0.0, steps=2, cooling=1, looks=3)
    run = train(config, "SGD", 0.05, designs=2, seed=7)
    x, true = regressions(config, 2, 7)
    assert x.shape == (4, 4, 5)
    assert x[0, 3].abs().max() == 0  # n = 3
    source = torch.Generator().manual_seed(8)
    u, v = (0.3 * torch.randn(true.shape, generator=source) for _ in range(2))
    for lr in (0.05, 0.05, 0.05):
        u, v = u.requires_grad_(), v.requires_grad_()
        loss = ((x @ (u**2 - v**2 - true)[..., None]) ** 2).sum()
        g = torch.autograd.grad(loss, (u, v))
        u, v = (u - lr * g[0]).detach(), (v - lr * g[1]).detach()
    torch.testing.assert_close(run["beta"], u**2 - v**2)


def test_adam_sparse_regression(tmp_path, monkeypatch):
    from analysis_scripts.toys import adam_sparse_regression as script

    sizes = {"inputs": 6, "nonzero": 1, "samples": (3, 5), "designs": 3, "tuning": 2, "steps": 60, "cooling": 20}
    config = script.Config(**sizes, looks=4, lr_sgd=(0.02, 100.0), lr_adam=(0.02, 0.05), folder=str(tmp_path))
    found = script.main(config)
    assert found["tuning"]["SGD"][0][1] < found["tuning"]["SGD"][1][1]  # that of 100 diverges
    assert len(found["claims"]) == 4
    monkeypatch.setattr(script, "train", lambda *_: pytest.fail("finished networks are trained again"))
    assert script.main(config)["claims"] == found["claims"]


@pytest.mark.parametrize(
    ("others", "verdict"), [((0.1, 0.1), "agrees"), ((0.1, 0.3), "differs"), ((0.1, 0.115), "cannot say")]
)
def test_a_setting_matters_when_one_difference_lies_beyond_the_margin(others, verdict):
    from analysis_scripts.toys.adahessian_settings import Config, spread

    noise = (-0.002, 0.0, 0.002, 0.001)
    errors = {("block", 1): [0.1 + own for own in noise]}
    errors |= {("block", 2 + i): [other - own / 2 for own in noise] for i, other in enumerate(others)}
    assert spread(Config(), errors, "table", "claim", "block").verdict == verdict


def test_adahessian_settings(tmp_path):
    from analysis_scripts.toys.adahessian_settings import Config, main

    few = {"scales": (1, 10), "blocks": (1, 8), "periods": (1, 2), "seeds": (0, 1), "tuning_seeds": (100,)}
    lrs = {"lr_adamw": (0.01,), "lr_adahessian": (0.1,)}
    folders = {"runs": str(tmp_path / "runs"), "folder": str(tmp_path / "figures")}
    found = main(Config(**few, **lrs, **folders, epochs=2, rounds=2, steps=1))
    assert found["lr"] == {"AdamW": 0.01, "AdaHessian": 0.1}
    assert set(found["errors"]["scale"]) == {"AdamW, 1", "AdamW, 10", "AdaHessian, 1", "AdaHessian, 10"}
    assert found["errors"]["block"]["block, 1"] == found["errors"]["period"]["period, 1"]  # the same training
    assert json.loads((tmp_path / "figures/settings.json").read_text())["claims"] == found["claims"]
    for file in (tmp_path / "runs").rglob("config.json"):  # on what the figure says, judged by the images held out
        trained = json.loads(file.read_text())
        assert (trained["dataset"], trained["model"], trained["schedule"]) == ("npz", "mlp", "cosine")
