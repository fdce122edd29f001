import subprocess
import sys

import numpy as np
import pytest
import torch
from drawings import drawn, texts
from matplotlib.figure import Figure

from landscape.plots import plot_eigenvalues, plot_estimates
from landscape.slices.paths.quadratic import QuadraticModel
from landscape.storage.results import (
    BezierPath,
    BlockSpectra,
    EigenPairs,
    Estimate,
    Map2D,
    Measurements,
    Persistence,
    Result,
    Slice1D,
    Slice2D,
    SliceBand,
    SpectralDensity,
    Trajectory,
)
from landscape.storage.results.shown import Drawn
from landscape.study import correlate

X, Y = torch.linspace(-1, 1, 5).double(), torch.linspace(-1, 1, 4).double()
GRID = 0.1 + X[None] ** 2 + Y[:, None] ** 2
PAIRS = EigenPairs(
    torch.tensor([3.0, 0.5]), torch.eye(3)[:, :2], torch.tensor([0.1, 0.25]), torch.tensor([True, False]), 12
)
ESTIMATES = {
    "gap": Estimate(torch.tensor(100.0), torch.tensor(2.0)),
    "two": Estimate(torch.tensor([0.1, -3.0]), torch.zeros(2)),
    "open": Estimate.exact(1.0, converged=False),
}
MODEL = QuadraticModel(torch.tensor(1.0), torch.tensor(0.5), torch.tensor(2.0))
PATH = BezierPath(torch.tensor([1.0, 1.0]), torch.tensor([4.0, 3.0]), torch.tensor([9.0, 1.0]))
RUN = Trajectory(
    torch.tensor([0, 50]), torch.tensor([[0.5, 0.5], [0.0, 0.0]]), torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]),
    {"test": torch.tensor([1.0, 0.5])}, torch.tensor([0.5, 0.25]),
)  # fmt: skip
PLANE = Slice2D(X, Y, {"test": GRID}, {}, torch.ones(2), torch.tensor(0.0))
TABLE = [{"generalization_gap": i / 9, "metric": (i * 7 % 9) / 9} for i in range(9)]
FOUND = correlate(TABLE, ["metric"], resamples=9)
RESULTS = [
    PAIRS, PLANE, PATH, RUN, MODEL, FOUND, FOUND["metric"], Measurements(ESTIMATES, {}, {}), *ESTIMATES.values(),
    BlockSpectra(
        ["a"], torch.tensor([5]), torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1, 1).bool(), torch.ones(1),
        torch.zeros(1), torch.tensor([7]), 9,
    ),
    Map2D(X, Y, GRID, torch.zeros_like(GRID), "|l|"),
    Persistence(*(torch.tensor(v) for v in ([0.0, 1.0], [3.0, 4.0], [[0, 0], [1, 2]], [[1, 1], [0, 1]], [-1, 0]))),
    Slice1D(X, {"train": X**2}, {}),
    SliceBand(X, {"train": torch.stack([X**2, 2 * X**2])}, {}),
    SpectralDensity(torch.arange(6.0).reshape(2, 3), torch.full((2, 3), 1 / 3)),
]  # fmt: skip


def kinds(base):
    return {each for own in base.__subclasses__() for each in [own, *kinds(own)]}


@pytest.mark.parametrize("result", RESULTS, ids=lambda own: type(own).__name__)
def test_every_result_has_a_figure_that_a_notebook_shows(result):
    ax = result.plot()
    drawn(ax.figure)
    assert ax.has_data()
    assert ax._repr_png_().startswith(b"\x89PNG")
    given = Figure().add_subplot()
    assert result.plot(given) is given
    assert not hasattr(given, "_repr_png_")


def test_no_result_is_forgotten():
    others = {"Table", "Result", "CrossCheck"}  # bases, and what is two tables
    missing = {kind.__name__ for kind in kinds(Drawn) if kind.__module__.startswith("landscape.")}
    assert missing - {type(own).__name__ for own in RESULTS} - others == set()


def test_what_has_no_figure_says_so():
    with pytest.raises(ValueError, match="there is no figure of a Result; plot what it is made of"):
        Result().plot()


def test_options_are_those_of_the_function():
    assert RUN.plot(slice=PLANE).get_ylabel() == PLANE.plot(split="test").get_ylabel()
    assert MODEL.plot(reach=3.0).lines[0].get_xdata()[[0, -1]].tolist() == [-3.0, 3.0]


def test_a_parabola_is_drawn_as_it_is():
    x, y = MODEL.plot().lines[0].get_data()
    np.testing.assert_allclose(y, 1 + 0.5 * x + x**2, rtol=1e-12)


def test_a_path_is_drawn_in_the_plane_of_its_networks():
    x, y = PATH.plot().lines[0].get_data()
    t = np.linspace(0, 1, len(x))
    points = torch.stack([PATH.at(float(each)) for each in t]).double().numpy() - 1  # start at 0, the end along x
    np.testing.assert_allclose(np.stack([x, y], 1), points, atol=1e-6)


def test_a_run_alone_shows_how_far_it_was():
    lines = RUN.plot().lines
    assert [line.get_ydata().tolist() for line in lines] == [[2.0, 0.0], [1.0, 0.0]]


def test_eigenvalues_stand_with_their_bounds_and_what_has_not_converged_is_empty():
    ax = plot_eigenvalues(PAIRS)
    assert texts(ax) == ["converged", "not converged"]
    spans = [box.lines[2][0].get_segments()[0][:, 1].tolist() for box in ax.containers]
    np.testing.assert_allclose(spans, [[2.9, 3.1], [0.25, 0.75]], rtol=1e-6)
    assert [box.lines[0].get_markerfacecolor() for box in ax.containers] == ["#0072B2", "white"]


def test_estimates_have_a_line_each_with_two_standard_errors():
    ax = plot_estimates(ESTIMATES)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["gap", "two[0]", "two[1]", "open"]
    assert [text.get_text() for text in ax.texts] == ["100 ± 2", "0.1", "-3", "1 not converged"]
    assert ax.get_xscale() == "symlog"  # 0.1 to 100
    assert ax.containers[0].lines[2][0].get_segments()[0][:, 0].tolist() == [96.0, 104.0]
    assert ax.containers[1].lines[0].get_data()[1].tolist() == [3]  # the empty mark


def test_many_numbers_are_a_curve():
    many = Estimate(torch.arange(100.0), torch.ones(100))
    ax = many.plot()
    assert ax.lines[0].get_ydata().tolist() == list(range(100))
    drawn(ax.figure)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="at least one number"):
        plot_estimates({})


def test_matplotlib_is_loaded_when_a_figure_is_asked_for():
    code = (
        "import sys, torch, landscape as ls; assert 'matplotlib' not in sys.modules;"
        "ls.Estimate.exact(1.0).plot(); assert 'matplotlib.pyplot' not in sys.modules and 'matplotlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
