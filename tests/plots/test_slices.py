"""Bands over directions, the quadratic model beside the true loss, captions, and figures with their data."""

import math

import numpy as np
import pytest
import torch
from cases import make, normal
from drawings import drawn, texts

from landscape.curvature import hessian
from landscape.plots import add_caption, caption, plot_band, plot_slice_1d, plot_slice_2d, save_with_data
from landscape.problem import Problem
from landscape.slices import quadratic_model, slice_1d
from landscape.storage.results import Slice1D, Slice2D, SliceBand

X = torch.linspace(-1, 1, 11, dtype=torch.float64)


# --------------------------------------------------------------------- bands


def band(count: int = 20) -> SliceBand:
    steep = torch.arange(1, count + 1, dtype=torch.float64)[:, None]
    loss = 1 + steep * X**2
    return SliceBand(X, {"train": loss, "test": loss + 1}, {"train": 1 / loss, "test": 1 / (loss + 1)})


@pytest.mark.parametrize("what", ["loss", "error"])
def test_a_band_is_the_mean_and_the_share_of_the_lines_asked_for(what):
    result = band()
    ax = plot_band(result, what=what, level=0.5)
    values = {"loss": result.loss, "error": {split: 1 - own for split, own in result.accuracy.items()}}[what]
    for curve, area, split, style in zip(ax.lines, ax.collections, ("train", "test"), ("-", "--"), strict=True):
        assert curve.get_ydata() == pytest.approx(values[split].mean(0).numpy())
        assert curve.get_linestyle() == style
        edge = area.get_paths()[0].vertices
        inside = values[split].sort(0).values[[5, 14], -1].numpy()  # the middle half of 20 lines, at x = 1
        assert sorted({v for u, v in edge.tolist() if u == 1.0}) == pytest.approx(inside.tolist(), rel=0.06)
    assert texts(ax)[0] == f"train {what}, mean of 20 directions"
    assert texts(ax)[-1] == "50 % of the directions"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", what)
    drawn(ax.figure)


def test_all_lines_of_a_band():
    result = band(4)
    ax = plot_band(result, lines=True)
    shown = np.stack([curve.get_ydata() for curve in ax.lines])
    assert np.array_equal(shown, torch.cat([result.loss["train"], result.loss["test"]]).numpy())
    assert texts(ax) == ["train loss, 4 directions", "test loss, 4 directions"]
    drawn(ax.figure)


def test_a_band_with_an_infinite_line_leaves_a_gap():
    result = band()
    result.loss["train"][:, 3] = math.inf
    ax = plot_band(result)
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [i == 3 for i in range(11)]
    drawn(ax.figure)
    with pytest.raises(ValueError, match=r"what must be one of 'loss' \| 'error', got 'accuracy'"):
        plot_band(result, what="accuracy")


# ----------------------------------------------------------- quadratic model


def test_the_model_of_a_quadratic_loss_is_the_loss_itself():
    """A linear network under a squared error: third derivatives are 0, so is the remainder."""
    model = torch.nn.Linear(4, 1).double()
    problem = Problem(model, torch.nn.functional.mse_loss, (normal(20, 4), normal(20, 1, seed=1)))
    d = normal(5, seed=2)
    true = slice_1d(problem, d, (-2.0, 2.0, 9))
    torch.testing.assert_close(quadratic_model(problem, d)(true.x), true.loss["train"], rtol=1e-12, atol=1e-12)


def test_the_remainder_of_the_model_is_of_third_order():
    problem = make("mlp").problem()
    d = normal(problem.size) / problem.size**0.5
    model = quadratic_model(problem, d)
    assert float(model.curvature) == pytest.approx(float(d @ hessian(problem).dense() @ d), rel=1e-9)
    steps = torch.tensor([0.02, 0.01], dtype=torch.float64)
    far, near = (float(problem.loss(problem.vector() + h * d) - model(h)) for h in steps)
    assert far / near == pytest.approx(8.0, rel=0.05)


def test_a_model_is_saved_and_loaded(tmp_path):
    problem = make("mlp").problem()
    model = quadratic_model(problem, problem.vector())
    again = type(model).load(model.save(tmp_path / "model"))
    assert torch.equal(again(X), model(X))


def test_the_model_is_drawn_beside_the_loss_and_does_not_widen_the_axis():
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    result = Slice1D(x, {"train": 1 + x**2}, {"train": torch.full((11,), math.nan)})
    plain = plot_slice_1d(result).get_ylim()
    ax = plot_slice_1d(result, model=lambda x: 1 + 50 * x**2)
    assert ax.get_ylim() == plain
    assert np.array_equal(ax.lines[1].get_ydata(), (1 + 50 * x**2).numpy())
    assert texts(ax) == ["train loss", "quadratic model"]
    drawn(ax.figure)


def test_a_line_in_the_look_of_li():
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    steep = torch.exp(8 * x.abs())
    ax = plot_slice_1d(Slice1D(x, {"train": steep}, {"train": 1 - 0.5 * x.abs()}), style="li2018")
    (right,) = [other for other in ax.figure.axes if other is not ax]
    assert (ax.get_yscale(), right.get_ylabel(), right.get_ylim()) == ("linear", "accuracy (%)", (0.0, 103.0))
    assert (ax.lines[0].get_color(), right.lines[0].get_color()) == ("blue", "red")
    assert right.lines[0].get_ydata() == pytest.approx(100 - 50 * np.abs(x.numpy()))
    drawn(ax.figure)


# ------------------------------------------------------------------ captions


def plane(**details) -> Slice2D:
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    loss = {"train": 1 + x[None, :] ** 2 + x[:, None] ** 2}
    return Slice2D(x, x, loss, {}, torch.tensor([2.0, 3.0]), torch.tensor(0.0123), details=details)


def test_a_caption_says_what_is_known():
    full = plane(
        units={"train": 1200},
        batch_norm="eval",
        subset=None,
        seconds=42.3,  # the time it took is no matter of the figure
        normalize="filter",
        ignore="bias_norm",
        seed=3,
    )
    assert caption(full, "train") == (
        "train (N = 1,200); filter-normalised directions; biases and norms held still; BatchNorm: stored statistics; "
        "seed 3; cos(d1, d2) = 0.012; 5 × 5 points."
    )
    assert caption(plane()) == "train; cos(d1, d2) = 0.012; 5 × 5 points."


def test_a_caption_of_lines():
    assert caption(band()) == "train; test; 20 lines of 11 points."
    line = Slice1D(X, {"train": X}, {}, details={"normalize": None, "ignore": None, "seconds": 9000})
    assert caption(line) == "train; directions not normalised; 11 points."


def test_a_caption_stands_below_the_figure_and_inside_it():
    ax = plot_slice_2d(plane(batch_norm="recompute", normalize="layer", ignore="bias_norm", seed=0))
    drawn(ax.figure)
    before = ax.get_window_extent().height
    add_caption(ax.figure, caption(plane(batch_norm="recompute", normalize="layer", ignore="bias_norm", seed=0)))
    drawn(ax.figure)
    assert ax.get_window_extent().height == pytest.approx(before, rel=0.1)  # the caption takes nothing from the axes
    box = ax.figure._supxlabel.get_window_extent()
    assert "\n" in ax.figure._supxlabel.get_text()
    assert 0 <= box.x0 < box.x1 <= ax.figure.bbox.width
    assert 0 <= box.y0 < box.y1 <= ax.get_tightbbox().y0


def test_a_figure_is_saved_with_its_data(tmp_path):
    result = plane(seed=3)
    paths = save_with_data(plot_slice_2d(result).figure, result, tmp_path / "rho=0.05", ("svg", "png"), run="a")
    assert [path.name for path in paths] == ["rho=0.05.svg", "rho=0.05.png", "rho=0.05.npz"]
    assert torch.equal(Slice2D.load(paths[-1]).loss["train"], result.loss["train"])
    assert '"run": "a"' in (tmp_path / "rho=0.05.json").read_text()
    with pytest.raises(ValueError, match="formats must be one of"):
        save_with_data(plot_slice_2d(result).figure, result, tmp_path / "other", ("jpg",))
    assert not list(tmp_path.glob("other*"))
