import json
from io import BytesIO
from math import inf, nan

import numpy as np
import pytest
import torch
from cases import normal, same
from hypothesis import given
from hypothesis import strategies as st

from landscape.storage.results import (
    EigenPairs,
    Estimate,
    Slice1D,
    Slice2D,
    SliceBand,
    SpectralDensity,
    standard_error,
)

RESULTS = [
    Estimate(torch.tensor(1.5), torch.tensor(nan), 7, {"alpha": 0.1, "beta": nan}),
    EigenPairs(normal(2), normal(5, 2), normal(2), torch.tensor([True, False]), 12),
    EigenPairs(normal(2), normal(5, 2), normal(2), torch.tensor([True, False]), 12, verified=1e-6),
    Estimate(torch.tensor(1.5), torch.tensor(0.1), 7, verified=2e-7),
    SpectralDensity(normal(2, 3), normal(2, 3).abs(), 6),
    SpectralDensity(normal(2, 4), normal(2, 4).abs(), 6, normal(2), {"mean": 0.1, "mean_stderr": nan}),
    Slice1D(normal(3), {"train": normal(3), "a/b": torch.tensor([nan, 1.0, 2.0])}, {}),
    Slice1D(normal(3), {"t": normal(3)}, {"t": normal(3)}, {"t": normal(3)}, {"units": {"t": 4}, "subset": None}),
    SliceBand(normal(3), {"train": normal(5, 3)}, {"train": normal(5, 3)}),
    Slice2D(normal(3), normal(2), {"train": normal(2, 3)}, {"train": normal(2, 3)}, normal(2), normal(1)[0]),
]


def test_a_band_holds_the_central_share_of_its_lines_point_by_point():
    lines = torch.arange(11.0).double()[torch.randperm(11, generator=torch.Generator().manual_seed(0))]
    loss = torch.stack([lines, 2 * lines, torch.where(lines == 3, nan, lines)], dim=1)  # (K, n)
    band = SliceBand(torch.arange(3.0), {"train": loss}, {"train": 1 - loss})
    assert same(band.mean("train"), torch.tensor([5.0, 10.0, nan]).double())
    assert same(band.mean("train", what="accuracy"), torch.tensor([-4.0, -9.0, nan]).double())
    for level, low, high in [(1, 0.0, 10.0), (0.8, 1.0, 9.0), (0.4, 3.0, 7.0)]:
        lower, upper = band.band("train", level=level)
        torch.testing.assert_close(lower, torch.tensor([low, 2 * low, nan]).double(), equal_nan=True)
        torch.testing.assert_close(upper, torch.tensor([high, 2 * high, nan]).double(), equal_nan=True)


def test_an_infinite_line_leaves_the_rest_of_the_band_alone():
    loss = torch.tensor([[1.0], [2.0], [inf], [inf]], dtype=torch.float64)
    low, high = SliceBand(torch.zeros(1), {"train": loss}, {}).band("train")
    assert (low.item(), high.item()) == (1.0, inf)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"split": "test"}, "split must be one of 'train', got 'test'"),
        ({"split": "train", "what": "error"}, "what must be one of 'loss' | 'accuracy', got 'error'"),
        ({"split": "train", "level": 0}, "level must be in (0, 1], got 0"),
    ],
)
def test_what_a_band_cannot_tell(asked, message):
    with pytest.raises(ValueError, match="must be") as error:
        SliceBand(normal(2), {"train": normal(3, 2)}, {}).band(**asked)
    assert str(error.value) == message


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: type(r).__name__)
def test_load_gives_back_what_was_saved(result, tmp_path):
    path = result.save(tmp_path / "new" / "lr0.1", seed=3)
    assert path == tmp_path / "new" / "lr0.1.npz"
    for name in ("lr0.1", "lr0.1.npz"):
        found = type(result).load(tmp_path / "new" / name)
        for field, value in vars(result).items():
            other = getattr(found, field)
            values = [list(x.values()) if isinstance(x, dict) else x for x in (value, other)]
            assert same(*values) or str(values[0]) == str(values[1])  # NaN among plain numbers
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["what"] == type(result).__name__
    assert manifest["seed"] == 3
    assert set(manifest["versions"]) >= {"landscape", "torch", "numpy", "python"}
    assert not list(path.parent.glob("*partial*"))


@pytest.mark.parametrize("result", RESULTS[:2], ids=lambda r: type(r).__name__)
def test_a_file_from_before_verification_is_read(result, tmp_path):
    manifest = result.save(tmp_path / "old").with_suffix(".json")
    content = json.loads(manifest.read_text())
    del content["fields"]["verified"], content["sha256"]
    manifest.write_text(json.dumps(content))
    assert type(result).load(tmp_path / "old").verified is None


def test_names_with_a_dot_do_not_overwrite_each_other(tmp_path):
    for value in (1.0, 2.0):
        Estimate(torch.tensor(value), torch.tensor(0.0)).save(tmp_path / f"rho{value / 10}")
    assert Estimate.load(tmp_path / "rho0.1").value == 1


def test_half_precision_is_saved_as_single(tmp_path):
    Estimate(torch.ones((), dtype=torch.bfloat16), torch.zeros(())).save(tmp_path / "a")
    assert Estimate.load(tmp_path / "a").value.dtype == torch.float32


def array_file():
    file = BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


def write_manifest(text):
    return lambda path: path.with_suffix(".json").write_text(text)


DAMAGE = {
    "missing arrays": lambda path: path.unlink(),
    "missing manifest": lambda path: path.with_suffix(".json").unlink(),
    "truncated arrays": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty arrays": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an archive"),
    "one array": lambda path: path.write_bytes(array_file()),
    "pickle": lambda path: np.savez(path, value=np.array([{"a": 1}], dtype=object)),
    "other arrays": lambda path: np.savez(path, foreign=np.ones(3)),
    "truncated manifest": write_manifest('{"what": "Estim'),
    "a list": write_manifest("[1]"),
    "no fields": write_manifest('{"what": "Estimate"}'),
    "fields of another kind": write_manifest('{"what": "Estimate", "fields": 3}'),
    "another result": write_manifest('{"what": "EigenPairs", "fields": {}}'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_or_foreign_file_is_one_clear_line(kind, tmp_path):
    path = Estimate(torch.ones(3), torch.zeros(3)).save(tmp_path / "result")
    manifest = json.loads(path.with_suffix(".json").read_text())
    del manifest["sha256"]  # as in files of earlier versions: with it all damage is said alike
    write_manifest(json.dumps(manifest))(path)
    DAMAGE[kind](path)
    with pytest.raises(ValueError, match="result") as error:
        Estimate.load(path)
    assert "\n" not in str(error.value)


def test_a_failed_save_leaves_the_old_result(tmp_path):
    path = Estimate(torch.tensor(1.0), torch.tensor(0.0)).save(tmp_path / "a")
    with pytest.raises(TypeError):
        Estimate(torch.tensor(2.0), torch.tensor(0.0)).save(tmp_path / "a", settings=object())
    assert Estimate.load(path).value == 1


density = SpectralDensity(
    torch.tensor([[0.0, 1.0, 4.0], [0.5, 2.0, 2.0]]), torch.tensor([[0.2, 0.3, 0.5], [0.9, 0.1, 0.0]])
)


def test_the_density_is_a_mixture_of_gaussians_that_integrates_to_one():
    grid = torch.linspace(-5, 10, 3001)
    mean, stderr = density.evaluate(grid, 0.3)
    assert abs(torch.trapezoid(mean, grid) - 1) < 1e-6
    normals = [torch.distributions.Normal(density.nodes[i].double()[:, None], 0.3) for i in range(2)]
    rows = [(density.weights[i, :, None] * n.log_prob(grid.double()).exp()).sum(0) for i, n in enumerate(normals)]
    torch.testing.assert_close(mean, (rows[0] + rows[1]) / 2, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(stderr, (rows[0] - rows[1]).abs() / 2, rtol=1e-5, atol=1e-9)


def test_one_probe_has_no_standard_error():
    one = SpectralDensity(density.nodes[:1], density.weights[:1])
    mean, stderr = one.evaluate(torch.zeros(2), 1.0)
    assert mean.isfinite().all()
    assert stderr.isnan().all()


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, nan])
def test_bandwidth_must_be_positive(bandwidth):
    with pytest.raises(ValueError, match="bandwidth must be positive, got"):
        density.evaluate(torch.zeros(2), bandwidth)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_standard_error_is_that_of_the_mean(samples):
    expected = np.std(samples, ddof=1) / len(samples) ** 0.5
    torch.testing.assert_close(
        float(standard_error(torch.tensor(samples, dtype=torch.float64))), expected, rtol=1e-9, atol=1e-9
    )


def test_a_density_saved_before_outliers_were_known_loads(tmp_path):
    path = SpectralDensity(normal(2, 3), normal(2, 3).abs(), 6).save(tmp_path / "old")
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files if name != "outliers"}
    np.savez(path, **kept)
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["fields"] = {"matvecs": 6}
    del manifest["sha256"]  # nor were checksums
    path.with_suffix(".json").write_text(json.dumps(manifest))
    found = SpectralDensity.load(path)
    assert (len(found.outliers), found.moments, found.matvecs) == (0, {}, 6)
