"""The page to turn around: what it holds, what it refuses, and, where there is a browser, what it says."""

import html
import json
import math
import re
import shutil
import subprocess

import pytest
import torch
from drawings import bowl, plane

from landscape.plots import save_interactive
from landscape.storage.results import EigenPairs, Slice1D, Slice2D

chromium = shutil.which("chromium") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(chromium is None, reason="no chromium on the path")


def slanted(x, y):
    return torch.exp(2 * x + 3 * y)


def with_accuracy(slice: Slice2D) -> Slice2D:
    accuracy = {"train": torch.exp(-slice.loss["train"])}
    return Slice2D(slice.x, slice.y, slice.loss, accuracy, slice.norms, slice.cosine, details={"normalize": "filter"})


def pairs(*values: float) -> EigenPairs:
    k = len(values)
    return EigenPairs(torch.tensor(values), torch.eye(k), torch.full((k,), 1e-3), torch.ones(k, dtype=torch.bool), 9)


def line(slope: float) -> Slice1D:
    x = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    return Slice1D(x, {"train": 0.01 + slope * x**2 / 2}, {})


def content(path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


def seen(path, query="", script=""):
    """The page's text after it has run, with a script of the test's own at its end."""
    copy = path.with_name("copy.html")
    copy.write_text(path.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    url = f"{copy.as_uri()}{query}"
    dom = subprocess.run([chromium, *options, url], check=True, capture_output=True, text=True, timeout=120).stdout
    assert re.search(r'<p id="error"[^>]* hidden', dom), re.search(r'<p id="error".*?</p>', dom)
    return dom


def said(dom: str, kind: str = "point") -> list[str]:
    return [html.unescape(text) for text in re.findall(rf'<output class="{kind}">(.*?)</output>', dom)]


# ------------------------------------------------------------------ what it holds


def test_the_numbers_are_those_of_the_slice_in_five_digits(tmp_path):
    result = with_accuracy(plane(slanted, nx=7, ny=4, y_end=0.5))
    (network,) = content(save_interactive(result, tmp_path / "a.html"))["networks"]
    (frame,) = network["frames"]
    loss, accuracy = (torch.tensor(frame[name], dtype=torch.float64) for name in ("loss", "accuracy"))
    torch.testing.assert_close(loss, result.loss["train"], rtol=5.1e-5, atol=0)  # [j][i] belongs to (x[i], y[j])
    torch.testing.assert_close(accuracy, result.accuracy["train"], rtol=5.1e-5, atol=0)
    assert frame["x"] == pytest.approx(result.x.tolist(), rel=5e-5)
    assert frame["y"] == pytest.approx(result.y.tolist(), rel=5e-5)
    assert frame["own"] is None  # the grid does not hold y = 0


def test_four_surfaces_of_51_points_and_their_lines_can_be_mailed(tmp_path):
    big = with_accuracy(plane(slanted, nx=51, ny=51))
    names = ("a", "b", "c", "d")
    spectra, lines = dict.fromkeys(names, pairs(*range(20, 0, -1))), dict.fromkeys(names, [line(1.0)] * 20)
    path = save_interactive(dict.fromkeys(names, big), tmp_path / "new" / "a.html", spectra=spectra, lines=lines)
    assert path.stat().st_size < 400_000
    assert [file.name for file in path.parent.iterdir()] == ["a.html"]  # one file, written in one rename
    page = path.read_text(encoding="utf-8")
    assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=|https?://", page) == []  # nothing is fetched
    assert '<html lang="en">' in page
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "<title>Train loss around a, b, c, d</title>" in page
    assert "prefers-color-scheme: dark" in page


def test_names_are_text(tmp_path):
    name = "</script><b>a & b"
    path = save_interactive({name: plane(bowl)}, tmp_path / "a.html")
    assert content(path)["networks"][0]["name"] == name
    assert "<b>" not in path.read_text(encoding="utf-8")
    assert "&lt;/script&gt;&lt;b&gt;a &amp; b" in path.read_text(encoding="utf-8")


def test_what_is_not_finite_is_a_hole_and_said(tmp_path):
    result = plane(bowl, nx=5, ny=5)
    result.loss["train"][1, 2], result.loss["train"][0, 0] = math.nan, math.inf
    path = save_interactive(result, tmp_path / "a.html")
    (frame,) = content(path)["networks"][0]["frames"]
    assert [(j, i) for j in range(5) for i in range(5) if frame["loss"][j][i] is None] == [(0, 0), (1, 2)]
    assert "2 of 25 points are not finite" in frame["facts"]


def test_all_surfaces_have_one_scale_and_the_table_their_numbers(tmp_path):
    low, high = plane(lambda x, y: 1 + x**2 + y**2), plane(lambda x, y: 5 + x**2 + y**2)
    path = save_interactive({"low": low, "high": high}, tmp_path / "a.html", spectra={"low": [2.0, 2.0]})
    scale = content(path)["scale"]
    assert (scale["low"], scale["high"], scale["log"]) == (1, 7, True)
    rows = re.findall(r"<tr><td>(.*?)</tr>", path.read_text(encoding="utf-8"))
    cells = [re.split(r"</td>(?:<td>)?", row)[:-1] for row in rows]
    assert cells[0] == ["low", "1", "1 at (0, 0)", "3 at (-1, -1)", "0", "2"]
    assert cells[1] == ["high", "5", "5 at (0, 0)", "7 at (-1, -1)", "0", "–"]
    cut = content(save_interactive(low, tmp_path / "b.html", vmin=1.5, vmax=2.0))["scale"]
    assert (cut["low"], cut["high"], cut["log"]) == (1.5, 2, False)


def test_a_series_has_its_epochs_and_a_single_slice_stands_still(tmp_path):
    series = {0: plane(slanted), 5: plane(bowl)}
    spectra = {"SGD": {0: pairs(3.0), 5: [9.0, 1.0]}, "init": pairs(1.0)}
    lines = {"SGD": {5: [line(9.0)]}}
    found = content(
        save_interactive({"SGD": series, "init": plane(slanted)}, tmp_path / "a.html", spectra=spectra, lines=lines)
    )
    assert found["labels"] == ["0", "5"]
    sgd, init = found["networks"]
    assert [frame["values"] for frame in sgd["frames"]] == [[3], [9, 1]]
    assert [len(frame["lines"]) for frame in sgd["frames"]] == [0, 1]
    assert [frame["values"] for frame in init["frames"]] == [[1]]


@pytest.mark.parametrize(
    ("slices", "more", "message"),
    [
        ({}, {}, "slices must hold at least one result for each name, got an empty one"),
        (plane(lambda x, y: x * math.nan), {}, "slices must hold a finite train loss, got none"),
        (plane(bowl), {"split": "test"}, "split must be one of 'train', got 'test'"),
        (plane(bowl), {"vmin": 3.0, "vmax": 2.0}, "vmin must be below vmax, got 3, 2"),
        ({"a": plane(bowl)}, {"spectra": {"b": [1.0]}}, "a name of spectra must be one of 'a', got 'b'"),
        ({"a": {1: plane(bowl)}}, {"spectra": {"a": {2: [1.0]}}}, "an epoch of spectra of 'a' must be one of '1'"),
        (plane(bowl), {"spectra": [2.0], "lines": [line(1.0)] * 2}, "must be one an eigenvalue, got 2 for 1"),
        (
            {"a": {1: plane(bowl)}, "b": {1: plane(bowl), 2: plane(bowl)}},
            {},
            "all series must have the same epochs, got 1 of 'a' and 1, 2 of 'b'; leave out what not all have",
        ),
        (
            {"a": with_accuracy(plane(bowl)), "b": Slice2D(**{**vars(plane(bowl)), "details": {"normalize": None}})},
            {},
            "slices must be normalised alike to stand on one scale, got None and filter",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused_in_one_line(slices, more, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        save_interactive(slices, tmp_path / "a.html", **more)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------- what it does


@in_a_browser
def test_all_panels_tell_the_numbers_of_one_point(tmp_path):
    first, second = with_accuracy(plane(slanted, nx=5, ny=5)), plane(bowl, nx=9, ny=9)
    path = save_interactive({"first": first, "second": second}, tmp_path / "a.html")
    dom = seen(path, "#at=0.5,-1&along=1")
    assert said(dom) == [
        f"α = 0.5, β = −1: loss {math.exp(-2):.5g}, accuracy {100 * math.exp(-math.exp(-2)):.1f} %",
        "α = 0.5, β = −1: loss 3.76",
    ]
    assert said(dom, "told")[1] == "β = −1: loss 3.76"


@in_a_browser
def test_the_mouse_and_the_keys_turn_and_read(tmp_path):
    path = save_interactive({"a": plane(bowl, nx=9, ny=9), "b": plane(slanted, nx=9, ny=9)}, tmp_path / "a.html")
    pointed = """
        const canvas = panels[1].surface, frame = panels[1].network.frames[0], box = canvas.getBoundingClientRect();
        const {to} = projection(frame, canvas.clientWidth, canvas.clientHeight);
        const [x, y] = to(frame.x[2], frame.y[3], height(frame.loss[3][2]));
        canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + x, clientY: box.top + y}));
        drawAll();"""
    assert said(seen(path, "#tilt=1.2", pointed))[1] == f"α = −0.5, β = −0.25: loss {math.exp(-1.75):.5g}"
    key = "panels[0].surface.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', shiftKey: %s})); drawAll();"
    dom = seen(path, "", key % "true" + key % "false" + "document.title = (state.turn - HOME.turn).toFixed(2);")
    assert said(dom) == ["α = 0.25, β = 0: loss 0.1975", f"α = 0.25, β = 0: loss {math.exp(0.5):.5g}"]
    assert "<title>0.08</title>" in dom


@in_a_browser
def test_an_eigenvalue_brings_its_line_and_the_slider_its_epoch(tmp_path):
    series = {0: plane(bowl, nx=9, ny=9), 5: plane(lambda x, y: 4 * bowl(x, y), nx=9, ny=9)}
    spectra, lines = {"SGD": {0: [6.0], 5: [24.0, 8.0]}}, {"SGD": {5: [line(24.0)]}}
    path = save_interactive({"SGD": series}, tmp_path / "a.html", spectra=spectra, lines=lines)
    assert said(seen(path, "#along=2"), "told") == ["λ = 24; dashed L₀ + λ α²/2"]  # the last epoch at first
    reading = "panels[0].read = 0.4; drawAll(); document.title = lossRange().map(say);"
    read = seen(path, "#along=2", reading)
    assert said(read, "told") == ["λ = 24; at 0.4 loss 1.93, L₀ + λ α²/2 = 1.96"]
    assert "<title>0.01,3.16</title>" in read  # the line's own, which surfaces may not reach
    earlier = seen(path, "#along=2&frame=0&at=1,0")
    assert said(earlier, "told") == ["λ = 6; dashed L₀ + λ α²/2, no slice along this eigenvector was given"]
    assert said(earlier) == ["α = 1, β = 0: loss 3.01"]
    assert '<span id="when">0 (1 of 2)</span>' in earlier
    assert said(seen(path, "#along=3&frame=0"), "told") == ["This network has no such eigenvalue."]
    slid = seen(path, "", "control('frame').value = 0; control('frame').dispatchEvent(new Event('input')); drawAll();")
    assert said(slid) == ["α = 0, β = 0: loss 0.01"]
