import json
import math
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import bowl, drawn, plane, texts
from matplotlib.colors import LogNorm
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.path import Path as MplPath

from landscape.plots import (
    plot_density,
    plot_metric_against_gap,
    plot_slice_1d,
    plot_slice_2d,
    plot_tau_forest,
    plot_training,
    save_figure,
)
from landscape.plots.style import OTHERS, RULES
from landscape.storage.results import Slice1D, SpectralDensity

# ------------------------------------------------------------------------ 1D


def line(n: int = 11, low: float = 0.01) -> Slice1D:
    x = torch.linspace(-1, 1, n, dtype=torch.float64)
    loss = low * torch.exp(3 * x.abs())
    return Slice1D(x, {"train": loss, "test": loss + low}, {"train": 1 - 0.3 * x.abs(), "test": 0.9 - 0.3 * x.abs()})


def test_a_line_shows_loss_left_and_accuracy_right():
    result = line()
    ax = plot_slice_1d(result)
    (right,) = [other for other in ax.figure.axes if other is not ax]
    for axes, values in ((ax, result.loss), (right, result.accuracy)):
        for curve, split, style in zip(axes.lines, ("train", "test"), ("-", "--"), strict=True):
            assert np.array_equal(curve.get_xdata(), result.x.numpy())
            assert np.array_equal(curve.get_ydata(), values[split].numpy())
            assert curve.get_linestyle() == style
    assert (ax.get_xlabel(), ax.get_ylabel(), right.get_ylabel()) == ("x", "loss", "accuracy")
    assert texts(ax) == ["train loss", "test loss", "train accuracy", "test accuracy"]
    assert {c.get_color() for c in ax.lines}.isdisjoint({c.get_color() for c in right.lines})
    drawn(ax.figure)


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (150.0, "log"), (-150.0, "linear")])
def test_the_loss_is_logarithmic_over_two_decades_and_positive(factor, scale):
    result = line()
    steep = {"train": torch.linspace(1, abs(factor), 11) * (1 if factor > 0 else -1)}
    ax = plot_slice_1d(Slice1D(result.x, steep, {"train": torch.full((11,), math.nan)}))
    assert ax.get_yscale() == scale
    assert ax.figure.axes == [ax]  # no accuracy, no second axis
    drawn(ax.figure)


def test_points_of_a_line_that_are_not_finite_are_gaps_and_hatched():
    result = line()
    loss = result.loss["train"].clone()
    loss[0], loss[4] = math.inf, math.nan
    ax = plot_slice_1d(Slice1D(result.x, {"train": loss}, {"train": result.accuracy["train"]}))
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == (~loss.isfinite()).tolist()
    spans = [(round(p.get_x(), 9), round(p.get_x() + p.get_width(), 9)) for p in ax.patches if p.get_hatch()]
    assert spans == [(-1.0, -0.9), (-0.3, -0.1)]
    assert texts(ax)[-1] == "not finite"
    drawn(ax.figure)


# ------------------------------------------------------------------------ 2D


def contour_sets(ax) -> tuple[QuadContourSet, ...]:
    """Fill and lines."""
    sets = [c for c in ax.collections if isinstance(c, QuadContourSet)]
    return tuple(sorted(sets, key=lambda c: not c.filled))


def inside(ax, x: float, y: float) -> list[int]:
    """Which bands of the fill cover the point."""
    bands = [[MplPath(ring) for ring in path.to_polygons()] for path in contour_sets(ax)[0].get_paths()]
    return [i for i, rings in enumerate(bands) if sum(ring.contains_point((x, y)) for ring in rings) % 2]


def test_a_plane_is_filled_on_a_log_scale_with_labelled_lines_and_a_star():
    ax = plot_slice_2d(plane(bowl))
    fill, lines = contour_sets(ax)
    assert isinstance(fill.norm, LogNorm)
    assert (fill.levels[0], fill.levels[-1]) == (pytest.approx(0.01), pytest.approx(6.01))
    assert len(lines.labelTexts) > 2
    assert {float(t.get_text()) for t in lines.labelTexts} <= set(fill.levels)
    assert texts(ax) == ["the network: 0.01"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x · d1   (|d1| = 2)", "y · d2   (|d2| = 3)")
    assert ax.figure.axes[1].get_ylabel() == "train loss"
    drawn(ax.figure)


def test_rows_go_with_y_and_columns_with_x_on_a_grid_that_is_not_square():
    ax = plot_slice_2d(plane(lambda x, y: 5 + 4 * x + 0 * y, nx=9, ny=5))
    steps = contour_sets(ax)[0].levels
    for x in (-0.8, -0.3, 0.2, 0.7):
        band = [int(np.searchsorted(steps, 5 + 4 * x)) - 1]
        assert inside(ax, x, -0.9) == inside(ax, x, 0.9) == band
    drawn(ax.figure)


def test_equal_ranges_have_an_equal_aspect():
    assert plot_slice_2d(plane(bowl)).get_aspect() == 1.0
    assert plot_slice_2d(plane(bowl, y_end=0.5)).get_aspect() == "auto"


def test_a_slanted_plane_says_so():
    assert plot_slice_2d(plane(bowl, cosine=0.6)).get_ylabel() == "y · d2   (|d2| = 3, cos = 0.60)"


@pytest.mark.parametrize("limits", [{}, {"vmin": 0.1, "vmax": 2.0}])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_hatched_and_never_filled_in(value, limits):
    result = plane(bowl)
    result.loss["train"][:3, :3] = value
    ax = plot_slice_2d(result, **limits)
    hatched = [p for p in ax.patches if p.get_hatch()]
    assert [p.get_bbox().bounds for p in hatched] == [(-1.0, -1.0, 2.0, 2.0)]
    assert hatched[0].get_zorder() < contour_sets(ax)[0].get_zorder()
    assert inside(ax, -0.75, -0.7) == []
    assert len(inside(ax, 0.6, 0.6)) == 1
    assert texts(ax)[:2] == ["the network: 0.01", "not finite"]
    drawn(ax.figure)


def test_nothing_finite_at_all():
    ax = plot_slice_2d(plane(lambda x, y: 0 * x + math.nan))
    assert contour_sets(ax) == ()
    assert texts(ax) == ["the network: nan", "not finite"]
    drawn(ax.figure)


def test_finite_planes_are_not_hatched():
    assert not [p for p in plot_slice_2d(plane(bowl)).patches if p.get_hatch()]


def test_the_clipped_regions_are_named():
    ax = plot_slice_2d(plane(bowl), vmin=0.1, vmax=2.0)
    assert (contour_sets(ax)[0].levels[0], contour_sets(ax)[0].levels[-1]) == (0.1, 2.0)
    assert texts(ax) == ["the network: 0.01", "clipped above 2", "clipped below 0.1"]
    drawn(ax.figure)


def test_a_loss_that_explodes_is_clipped_by_itself():
    result = plane(lambda x, y: torch.where((x > 0.6) & (y > 0.6), 1e300, bowl(x, y)))
    ax = plot_slice_2d(result)
    median = float(result.loss["train"].median())
    assert contour_sets(ax)[0].levels[-1] == pytest.approx(100 * median, rel=0.2)
    assert texts(ax)[-1].startswith("clipped above")
    drawn(ax.figure)


def test_given_limits_are_shared_by_compared_networks():
    one, two = (plot_slice_2d(plane(lambda x, y, f=f: f * bowl(x, y)), vmin=0.01, vmax=10.0) for f in (1.0, 4.0))
    assert np.array_equal(contour_sets(one)[0].levels, contour_sets(two)[0].levels)
    assert [c.norm.vmin for c in (*contour_sets(one)[:1], *contour_sets(two)[:1])] == [0.01, 0.01]


@pytest.mark.parametrize(
    ("surface", "low", "logarithmic"),
    [
        (lambda x, y: bowl(x, y) - 2, -1.99, False),
        (lambda x, y: 2 + 0.1 * bowl(x, y), 2.001, False),
        (lambda x, y: bowl(x, y) - 0.01, 6e-6, True),  # 0 in the middle
        (lambda x, y: 0 * x + 1, 0.95, False),
        (lambda x, y: 0 * x, -1e-12, False),
    ],
)
def test_surfaces_that_no_log_scale_fits(surface, low, logarithmic):
    ax = plot_slice_2d(plane(surface))
    fill = contour_sets(ax)[0]
    assert fill.levels[0] == pytest.approx(low)
    assert isinstance(fill.norm, LogNorm) == logarithmic
    assert (np.diff(fill.levels) > 0).all()
    assert len(inside(ax, 0.53, 0.53)) == 1
    drawn(ax.figure)


def test_given_levels_are_drawn():
    ax = plot_slice_2d(plane(bowl), levels=[0.1, 1.0, 5.0])
    assert contour_sets(ax)[0].levels.tolist() == contour_sets(ax)[1].levels.tolist() == [0.1, 1.0, 5.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "test"}, "split must be one of 'train', got 'test'"),
        ({"vmin": 2.0, "vmax": 1.0}, "vmin must be below vmax, got 2, 1"),
        ({"levels": [1.0]}, r"levels must be at least two and rise, got \[1.0\]"),
    ],
)
def test_wrong_settings_of_a_plane_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        plot_slice_2d(plane(bowl), **settings)


def test_a_plane_of_one_row_is_named():
    with pytest.raises(ValueError, match=r"at least 2 points along each axis, got \(1, 9\) \(ny, nx\)"):
        plot_slice_2d(plane(bowl, ny=1))


# ------------------------------------------------------------------- density


def density(probes: int = 3) -> SpectralDensity:
    generator = torch.Generator().manual_seed(0)
    bulk = torch.randn(probes, 20, generator=generator, dtype=torch.float64)
    nodes = torch.cat([bulk, torch.full((probes, 1), 30.0, dtype=torch.float64)], 1)
    weights = torch.rand(probes, 21, generator=generator, dtype=torch.float64)
    weights[:, -1] = 1e-3
    return SpectralDensity(nodes, weights / weights.sum(1, keepdim=True))


def test_a_density_is_the_mean_over_probes_on_a_log_axis():
    result = density()
    ax = plot_density(result, bandwidth=0.3)
    x, y = ax.lines[0].get_data()
    mean, stderr = result.evaluate(torch.from_numpy(x), 0.3)
    assert np.array_equal(y, mean.numpy())
    assert x[0] <= result.nodes.min() - 5 * 0.3
    assert x[-1] >= result.nodes.max() + 5 * 0.3
    assert set(result.nodes.flatten().tolist()) <= set(x.tolist())
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=1e-3)
    assert (ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "eigenvalue", "density")
    peak = int(np.abs(x - 30.0).argmin())
    band = ax.collections[0].get_paths()[0].vertices
    edges = sorted({v for u, v in band.tolist() if u == x[peak]})
    ratio = math.exp(2 * float(stderr[peak] / mean[peak]))
    assert edges == pytest.approx([y[peak] / ratio, y[peak] * ratio])
    drawn(ax.figure)


def test_the_axis_shows_the_lowest_peak():
    result = density()
    ax = plot_density(result, bandwidth=0.3)
    x, y = ax.lines[0].get_data()
    low, high = ax.get_ylim()
    assert low < y[np.abs(x - 30.0).argmin()] / 5
    assert y.max() < high
    assert low >= 1e-8 * y.max()


def test_the_bandwidth_follows_the_range_and_a_single_probe_has_no_band():
    result = density(probes=1)
    ax = plot_density(result)
    x, y = ax.lines[0].get_data()
    sigma = 0.01 * float(result.nodes.max() - result.nodes.min())
    assert np.array_equal(y, result.evaluate(torch.from_numpy(x), sigma)[0].numpy())
    assert len(ax.collections) == 0
    assert texts(ax) == ["mean of 1 probe"]
    drawn(ax.figure)


def test_a_tiny_bandwidth_hides_no_peak():
    result = density()
    x, y = plot_density(result, bandwidth=1e-7).lines[0].get_data()
    assert y[x == 30.0][0] == pytest.approx(float(result.weights[:, -1].mean()) / (1e-7 * math.sqrt(2 * math.pi)))


def test_nodes_without_weight_do_not_widen_the_figure():
    result = density()
    nodes, weights = result.nodes.clone(), result.weights.clone()
    nodes[:, 0], weights[:, 0] = -1e6, 0.0
    x = plot_density(SpectralDensity(nodes, weights), bandwidth=0.3).lines[0].get_xdata()
    assert x[0] > -10


@pytest.mark.parametrize("value", [2.0, 0.0, -3.0])
def test_the_identity_has_a_density(value):
    ax = plot_density(SpectralDensity(torch.full((2, 1), value), torch.ones(2, 1)))
    x, y = ax.lines[0].get_data()
    assert x[y.argmax()] == pytest.approx(value, abs=1e-15)
    drawn(ax.figure)


def test_eigenvalues_are_ticks_from_below():
    values = torch.tensor([30.0, 2.0])
    ax = plot_density(density(), eigenvalues=values)
    ticks = [segment[0][0] for segment in ax.collections[-1].get_segments()]
    assert ticks == values.tolist()
    assert texts(ax) == ["mean of 3 probes", "± 2 stderr, on the log scale", "eigenvalues"]
    drawn(ax.figure)


def test_two_densities_in_one_figure_and_a_symmetric_log_axis():
    ax = plot_density(density(), label="sgd", scale="symlog")
    low, high = ax.get_ylim()
    plot_density(density(2), ax, label="sam", color="black", bandwidth=0.01, scale="symlog")
    assert ax.get_xscale() == "symlog"
    assert texts(ax) == ["sgd", "± 2 stderr, on the log scale", "sam"]
    assert ax.get_ylim()[0] <= low
    assert ax.get_ylim()[1] >= high
    drawn(ax.figure)


@pytest.mark.parametrize("scale", ["linear", "symlog"])
def test_outliers_are_stems_and_the_curve_is_the_bulk(scale):
    plain = density()
    extra = torch.tensor([50.0, -20.0], dtype=torch.float64)
    nodes = torch.cat([plain.nodes[:, :20], extra.expand(3, 2)], 1)
    weights = torch.cat([plain.weights[:, :20], torch.full((3, 2), 0.01, dtype=torch.float64)], 1)
    ax = plot_density(SpectralDensity(nodes, weights, outliers=extra), bandwidth=0.3, scale=scale)
    curve, heads = ax.lines
    x = curve.get_xdata()
    bulk = plain.nodes[:, :20]
    assert x[0] == pytest.approx(float(bulk.min()) - 1.5)
    assert x[-1] == pytest.approx(float(bulk.max()) + 1.5)
    mean, _ = SpectralDensity(bulk, weights[:, :20]).evaluate(torch.from_numpy(x), 0.3)
    assert np.array_equal(curve.get_ydata(), mean.numpy())
    assert heads.get_xdata().tolist() == extra.tolist()
    assert heads.get_ydata() == pytest.approx([0.01 / (0.3 * math.sqrt(2 * math.pi))] * 2)
    assert ax.get_ylim()[0] < heads.get_ydata()[0] < ax.get_ylim()[1]
    assert texts(ax)[-1] == "outliers"
    drawn(ax.figure)


def test_wrong_settings_of_a_density_are_named():
    with pytest.raises(ValueError, match=r"bandwidth must be positive and finite, got 0\.0"):
        plot_density(density(), bandwidth=0.0)
    with pytest.raises(ValueError, match=r"scale must be one of 'linear' \| 'symlog', got 'log'"):
        plot_density(density(), scale="log")


# ------------------------------------------------------------------ training


def log(start: float, rate: float) -> list[dict]:
    return [{"epoch": e, "test_loss": start * rate**e, "test_accuracy": 1 - 0.5 * 0.8**e} for e in range(6)]


def test_training_curves_have_the_rules_colours():
    logs = {"sam": log(2.0, 0.3), "mine": log(1.0, 0.9), "sgd": log(2.0, 0.5)}
    ax = plot_training(logs)
    assert len({curve.get_linestyle() for curve in ax.lines}) == len(logs)  # told apart without colours too
    for curve, rows in zip(ax.lines, logs.values(), strict=True):
        assert curve.get_xdata().tolist() == list(range(6))
        assert curve.get_ydata().tolist() == [row["test_loss"] for row in rows]
    assert [c.get_color() for c in ax.lines] == [RULES["sam"][0], OTHERS[0][0], RULES["sgd"][0]]
    assert texts(ax) == ["sam", "mine", "sgd"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "test loss", "log")
    assert plot_training(logs, key="test_accuracy").get_yscale() == "linear"
    drawn(ax.figure)


def test_each_rule_has_its_own_colour_and_marker():
    everyone = [*RULES.values(), *OTHERS]
    assert len({color for color, _ in everyone}) >= len(RULES) + len(OTHERS) - 1
    assert len({marker for _, marker in everyone}) == len(everyone)


def test_a_run_without_the_key_is_named():
    with pytest.raises(ValueError, match=r"run 'sgd': every row must have 'epoch' and 'train_loss', row 0 has"):
        plot_training({"sgd": log(1.0, 0.5)}, key="train_loss")
    with pytest.raises(ValueError, match="logs must hold at least one run"):
        plot_training({})


# ------------------------------------------------------------------- metrics


def rows(spread: float = 100.0) -> list[dict]:
    return [
        {"rule": rule, "trace": t * spread ** (i / 5), "trace_stderr": 0.1 * t, "generalization_gap": 0.01 * i}
        for i in range(6)
        for rule, t in (("sgd", 1.0), ("sam", 2.0))
    ]


def test_a_scatter_shows_each_network_with_its_error():
    ax = plot_metric_against_gap(rows(), "trace", tau=0.5, low=0.2, high=0.7)
    for container, rule in zip(ax.containers, ("sgd", "sam"), strict=True):
        own = [row for row in rows() if row["rule"] == rule]
        points, _, (bars,) = container
        assert points.get_xdata().tolist() == [row["trace"] for row in own]
        assert points.get_ydata().tolist() == [row["generalization_gap"] for row in own]
        assert (points.get_color(), points.get_marker()) == RULES[rule]
        for row, ((left, _), (right, _)) in zip(own, bars.get_segments(), strict=True):
            assert (left, right) == pytest.approx(
                (row["trace"] - row["trace_stderr"], row["trace"] + row["trace_stderr"])
            )
    assert ax.get_title(loc="left") == "Kendall's τ = 0.50 [0.20, 0.70], n = 12"
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("trace", "generalization gap", "log")
    assert texts(ax) == ["sgd", "sam"]
    drawn(ax.figure)


@pytest.mark.parametrize(
    ("interval", "title"),
    [
        ({"tau": 0.5, "low": 0.2, "high": 0.7, "rough": True}, "Kendall's τ = 0.50 [0.20, 0.70] rough, n = 12"),
        ({"tau": 0.5, "low": math.nan, "high": math.nan, "rough": True}, "Kendall's τ = 0.50, n = 12"),
        ({"tau": math.nan, "low": math.nan, "high": math.nan}, "Kendall's τ undefined, n = 12"),
        ({}, "n = 12"),
    ],
)
def test_a_scatter_says_how_far_its_tau_is_known(interval, title):
    assert plot_metric_against_gap(rows(), "trace", **interval).get_title(loc="left") == title


def test_a_metric_within_a_decade_or_negative_is_linear():
    assert plot_metric_against_gap(rows(spread=3.0), "trace").get_xscale() == "linear"
    signed = [{**row, "trace": -row["trace"]} for row in rows()]
    assert plot_metric_against_gap(signed, "trace").get_xscale() == "linear"


def test_networks_without_the_metric_are_counted():
    some = [*rows(), {"rule": "sgd", "trace": math.nan, "generalization_gap": 0.1}, {"rule": "sgd"}]
    ax = plot_metric_against_gap(some, "trace")
    assert sum(len(container[0].get_xdata()) for container in ax.containers) == 12
    assert ax.get_title(loc="left") == "n = 12, 2 not finite, left out"
    with pytest.raises(ValueError, match="rows must hold finite 'renyi' and 'generalization_gap' at least once"):
        plot_metric_against_gap(some, "renyi")
    drawn(ax.figure)


def test_rows_without_errors_or_groups():
    ax = plot_metric_against_gap([{"m": 1.0, "gap": 2.0}, {"m": 3.0, "gap": 1.0}], "m", target="gap")
    assert ax.containers[0][0].get_xdata().tolist() == [1.0, 3.0]
    assert ax.get_legend() is None
    drawn(ax.figure)


def correlation(tau: float, width: float = 0.1) -> SimpleNamespace:
    return SimpleNamespace(tau=tau, low=tau - width, high=tau + width)


def test_a_forest_is_sorted_and_shows_intervals_and_zero():
    taus = {"trace": -0.3, "renyi": 0.7, "broken": math.nan, "surrogate_gap": 0.5}
    ax = plot_tau_forest({name: correlation(tau) for name, tau in taus.items()})
    assert [t.get_text() for t in ax.get_yticklabels()] == ["broken", "trace", "surrogate gap", "renyi"]
    dots = {float(c.get_ydata()[0]): float(c.get_xdata()[0]) for c in ax.lines if c.get_marker() == "o"}
    assert [dots[y] for y in (1.0, 2.0, 3.0)] == [-0.3, 0.5, 0.7]
    segments = [segment for c in ax.collections for segment in c.get_segments() if len(segment)]
    bars = {left[1]: (left[0], right[0]) for left, right in segments}
    assert [bars[y] for y in (1.0, 2.0, 3.0)] == [pytest.approx((t - 0.1, t + 0.1)) for t in (-0.3, 0.5, 0.7)]
    assert [t.get_text() for t in ax.texts] == [
        "undefined",
        "-0.30 [-0.40, -0.20]",
        "+0.50 [+0.40, +0.60]",
        "+0.70 [+0.60, +0.80]",
    ]
    assert any(c.get_xdata() == [0.0, 0.0] for c in ax.lines if c.get_linestyle() == ":")
    drawn(ax.figure)


def test_an_empty_forest_is_named():
    with pytest.raises(ValueError, match="correlations must hold at least one metric"):
        plot_tau_forest({})


# -------------------------------------------------------------------- saving


def test_the_same_figure_is_the_same_file(tmp_path):
    first, second = (
        save_figure(plot_slice_2d(plane(bowl)).figure, tmp_path / name / "figure", ("png", "pdf", "svg"))
        for name in ("one", "two")
    )
    assert [p.name for p in first] == ["figure.png", "figure.pdf", "figure.svg"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    for path, word in zip(first, (b"Software", b"CreationDate", b"dc:date"), strict=True):
        assert word not in path.read_bytes()  # no version, no date
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in first)  # nothing partial
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert all(0 < p.stat().st_size < 200_000 for p in first)


def test_a_stem_with_a_dot_keeps_it(tmp_path):
    assert save_figure(Figure(), tmp_path / "rho=0.05", ("png",)) == [tmp_path / "rho=0.05.png"]


@pytest.mark.parametrize(("width", "inches"), [("column", 3.3), ("page", 6.8), (5, 5.0)])
def test_a_figure_has_the_width_of_a_paper(width, inches, tmp_path):
    figure = plot_slice_2d(plane(bowl)).figure
    shape = figure.get_size_inches() / figure.get_size_inches()[0]
    (png,) = save_figure(figure, tmp_path / "figure", ("png",), dpi=100, width=width)
    pixels = [int.from_bytes(png.read_bytes()[at : at + 4], "big") for at in (16, 20)]
    assert pixels == pytest.approx(100 * inches * shape, abs=1)


@pytest.mark.parametrize(
    ("width", "message"),
    [
        ("wide", "width must be one of 'column' | 'page', got 'wide'"),
        (0, "width must be positive and finite, got 0"),
    ],
)
def test_a_width_that_is_none_is_refused_before_anything_is_written(width, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        save_figure(Figure(), tmp_path / "figure", width=width)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"formats must be one of 'png' \| 'pdf' \| 'svg', got 'jpg'"):
        save_figure(Figure(), tmp_path / "figure", ("png", "jpg"))
    assert list(tmp_path.iterdir()) == []


def test_plots_draw_into_given_axes():
    figure = Figure(figsize=(12, 3), layout="constrained")
    axes = figure.subplots(1, 4)
    assert plot_slice_1d(line(), axes[0]) is axes[0]
    assert plot_slice_2d(plane(bowl), ax=axes[1]) is axes[1]
    assert plot_density(density(), axes[2]) is axes[2]
    assert plot_training({"sgd": log(1.0, 0.5)}, axes[3]) is axes[3]
    drawn(figure)


def test_matplotlib_loads_with_plots_only_and_pyplot_never():
    program = """
import json, sys
import landscape.slices, landscape.storage.results
before = "matplotlib" in sys.modules
import landscape.plots as plots
plots.plot_training({"sgd": [{"epoch": 0, "test_loss": 1.0}]})
print(json.dumps([before, "matplotlib.pyplot" in sys.modules]))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == [False, False]
