import pickle
import sys
from dataclasses import is_dataclass
from html.parser import HTMLParser
from math import inf, nan
from types import SimpleNamespace

import pytest
import torch
from cases import normal

import landscape as ls
from landscape import slices, study
from landscape.slices.directions.direction_set import Directions
from landscape.slices.findings import Finding
from landscape.storage.results import (
    BezierPath,
    BlockSpectra,
    EigenPairs,
    Estimate,
    Map2D,
    Measurements,
    Persistence,
    Slice1D,
    Slice2D,
    SliceBand,
    SpectralDensity,
    Trajectory,
)
from landscape.storage.results.measurements import Spent
from landscape.storage.results.shown import ROWS, cell, span

X, Y = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([10.0, 20.0])
GRID = torch.arange(6.0).reshape(2, 3)  # (ny, nx)
PAIRS = EigenPairs(
    torch.tensor([3.0, 0.5]), normal(1500, 2), torch.tensor([1e-6, 0.25]), torch.tensor([True, False]), 12
)
SPECTRA = BlockSpectra(
    ["a", "b"], torch.tensor([5, 1]), torch.tensor([[2.0, 1.0], [4.0, nan]]), torch.tensor([[0.1, 0.2], [0.3, nan]]),
    torch.tensor([[True, False], [True, False]]), torch.tensor([3.0, 4.0]), torch.tensor([0.5, 0.0]),
    torch.tensor([7, 8]), 9,
)  # fmt: skip
PLANE = Slice2D(
    X, Y, {"train": GRID, "a<b": 1 / GRID}, {"train": GRID / 6}, normal(2), torch.tensor(0.25), {}, {"seed": 3}
)
BAND = SliceBand(X, {"train": GRID}, {"train": GRID / 6})
MAP = Map2D(X, Y, GRID, GRID / 10, "|l|", {}, {"part": -GRID})
ENDS = Persistence(*(torch.tensor(v) for v in ([0.0, 1.0], [inf, 4.0], [[0, 0], [1, 2]], [[-1, -1], [0, 1]], [-1, 0])))
RUN = Trajectory(
    torch.tensor([0, 50]), normal(2, 2), normal(2), normal(2), {"train": normal(2)}, torch.tensor([0.5, 0.25])
)
DENSITY = SpectralDensity(normal(2, 3), torch.full((2, 3), 1 / 3), 6, moments={"mean": 0.125})
TABLE = Measurements(
    {"gap": Estimate(torch.tensor(1.5), torch.tensor(0.25)), "layers": Estimate(normal(2), normal(2).abs())},
    {"probes": Spent(2.0, 1.0)}, {"renyi": "<no> heads"},
)  # fmt: skip
LINE = Slice1D(X, {"train": torch.tensor([nan, 1.0, 2.0])}, {})
LONG = Estimate(torch.arange(1000.0), torch.zeros(1000), 7)
PATH = BezierPath(normal(4), normal(4), normal(4))
TABLES = [PAIRS, SPECTRA, PLANE, BAND, MAP, ENDS, RUN, DENSITY, TABLE, LINE, LONG]


class Tags(HTMLParser):
    """What a browser would read: every tag closed in its turn, and the words of each cell."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Estimate(torch.tensor(1.5), torch.tensor(0.25), 30), "Estimate(1.5 ± 0.25, matvecs=30)"),
        (Estimate.exact(0.0, converged=False), "Estimate(0, converged=no)"),
        (
            Estimate(torch.tensor([2.0]), torch.tensor([0.0]), gradient_times=3.0,
                     data="20 units in 1 batch", verified=2e-7),
            "Estimate(2, gradient_times=3, data=20 units in 1 batch, verified=2e-07)",
        ),
        (
            DENSITY,
            f"SpectralDensity(probes=2, steps=3, outliers=0, eigenvalues={span(DENSITY.nodes)}, mean=0.125, matvecs=6)",
        ),
        (PATH, "BezierPath(kind=bezier, P=4)"),
        (MAP, "Map2D(|l|, x=0 to 2, y=10 to 20, points=3 x 2, values=0 to 5, errors=0 to 0.5)"),
        (
            PAIRS,
            "EigenPairs(P=1,500, converged=1 of 2, matvecs=12)\nvalue  residual  converged\n"
            "3         1e-06        yes\n0.5        0.25         no",
        ),
        (
            LINE,
            "Slice1D(x=0 to 2, points=3)\nsplit    loss  accuracy  not finite\ntrain  1 to 2                     1",
        ),
        (
            PLANE,
            "Slice2D(x=0 to 2, y=10 to 20, points=3 x 2, cosine=0.25, seed=3)\n"
            "split      loss     accuracy  not finite\n"
            "train    0 to 5  0 to 0.8333           0\na<b    0.2 to 1                        1",
        ),
    ],
)  # fmt: skip
def test_a_result_says_in_few_lines_what_it_is(result, said):
    assert repr(result) == said


def test_blocks_of_fewer_eigenvalues_are_not_counted_as_unconverged():
    head, *lines = repr(SPECTRA).splitlines()
    assert head == "BlockSpectra(blocks=2, converged=2 of 3, passes=9)"
    assert lines[2].split() == ["b", "1", "4", "0.3", "nan", "nan", "4", "0", "8"]


def test_a_long_table_is_cut_in_its_repr_alone():
    head, names, *lines, more = repr(LONG).splitlines()
    assert head == "Estimate(1,000 values, matvecs=7)"
    assert names.split() == ["value", "stderr"]
    assert [float(line.split()[0]) for line in lines] == list(range(ROWS))
    assert more == "... 990 more"
    assert [row["value"] for row in LONG.rows()] == list(range(1000))


@pytest.mark.parametrize("result", [*TABLES, PATH], ids=lambda own: type(own).__name__)
def test_html_has_what_the_text_has_and_escapes_it(result):
    shown = Tags(result._repr_html_())
    assert type(result).__name__ in shown.text
    for line in result._preview():
        assert all(word in shown.cells for word in line if word)
    assert all(note in shown.text for note in result._notes())


CHECK = slices.SliceCheck((Finding("finite", True, 0.0, "all <finite>"), Finding("cosine", False, 0.5, "oblique")))
CHOSEN = study.NestedSelection(0.25, -0.5, 1.0, {"a<b": 0.75, "c": 0.25}, "c", -0.5)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (slices.Barrier(0.5, 0.25), ["Barrier height 0.5, at 0.25"]),
        (CHECK, ["SliceCheck ok no", "all <finite>", "LOOK", "oblique"]),
        (CHOSEN, ["tau +0.25, middle 95 % of halvings -0.50 to +1.00", "c (-0.50 on all networks)", "a<b", "75%"]),
        (Directions([normal(1500)] * 2, kind="random", seed=3), ["Directions 2 of P = 1,500, kind random, seed 3"]),
    ],
    ids=lambda own: type(own).__name__,
)
def test_findings_show_themselves_in_a_notebook_too(result, words):
    shown = Tags(result._repr_html_())
    assert all(word in shown.text for word in words)
    assert type(result).__name__ in repr(result)
    assert len(repr(result)) < 300


def test_every_public_result_has_its_look_in_a_notebook():
    public = [getattr(room, name) for room in (ls, slices, study) for name in room.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and is_dataclass(kind)]
    assert {slices.Barrier, ls.Estimate, ls.Correlation} <= set(kinds)
    plain = {kind.__name__ for kind in kinds if not hasattr(kind, "_repr_html_")}
    assert plain == {"Analysis", "StudyConfig", "TrainConfig"}  # settings


def test_the_tables_of_metrics_read_alike_by_any_name():
    assert repr(TABLE) == str(TABLE)
    assert "left out renyi: <no> heads" in repr(TABLE).splitlines()
    assert "<no> heads" in Tags(TABLE._repr_html_()).text
    assert pickle.loads(pickle.dumps(TABLE)).rows() == TABLE.rows()


def stand_in(monkeypatch):
    """A pandas of our own: a frame is what it was made of."""
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))


@pytest.mark.parametrize("result", TABLES, ids=lambda own: type(own).__name__)
def test_a_frame_holds_every_row(result, monkeypatch):
    stand_in(monkeypatch)
    frame, rows = result.to_frame(), result.rows()
    assert {len(column) for column in frame.values()} == {len(rows)}
    for name, column in frame.items():
        assert repr(column) == repr([row[name] for row in rows])  # NaN too
        assert not any(isinstance(value, torch.Tensor) for value in column)


@pytest.mark.parametrize(
    ("plane", "values", "name"), [(PLANE, GRID, "loss_train"), (MAP, GRID, "value"), (MAP, -GRID, "part")]
)
def test_rows_of_a_plane_belong_to_their_places(plane, values, name):
    at = {(x, y): float(values[j, i]) for i, x in enumerate(X.tolist()) for j, y in enumerate(Y.tolist())}
    assert {(row["x"], row["y"]): row[name] for row in plane.rows()} == at


def test_rows_of_a_band_belong_to_their_lines():
    at = {(k, x): float(GRID[k, i]) for k in range(2) for i, x in enumerate(X.tolist())}
    assert {(row["line"], row["x"]): row["loss_train"] for row in BAND.rows()} == at


def test_rows_of_a_density_keep_node_and_weight_together():
    assert [(row["probe"], row["node"], row["weight"]) for row in DENSITY.rows()] == [
        (probe, *pair)
        for probe in range(2)
        for pair in zip(DENSITY.nodes[probe].tolist(), DENSITY.weights[probe].tolist(), strict=True)
    ]


def test_ends_of_a_class_are_named():
    first, second = ENDS.rows()
    assert (first["lifetime"], first["saddle_row"], first["parent"]) == (inf, -1, -1)
    assert (second["minimum_row"], second["minimum_column"], second["saddle_column"]) == (1, 2, 1)


def test_without_pandas_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame needs pandas; pip install 'landscape-toolkit\[frames\]'"):
        PAIRS.to_frame()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), (False, "no"), (1234, "1,234"), (0.1, "0.1"), (nan, "nan"),
     (torch.tensor(2), "2"), ("s", "s")],
)  # fmt: skip
def test_cells_are_short(value, text):
    assert cell(value) == text


def test_a_value_that_still_has_a_graph_is_shown():
    value = torch.tensor(2.0, requires_grad=True)
    assert repr(Estimate(value, torch.zeros(()))) == "Estimate(2)"
