import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape.models import build
from landscape.training.trainer.checkpoint import load_checkpoint, save_checkpoint

SETTINGS = {"width": 4, "norm": "batch"}
METADATA = {"model": {"name": "resnet", "settings": SETTINGS}, "note": 3}


def trained(dtype=torch.float32):
    model = build("resnet", SETTINGS, seed=1).to(dtype)
    model(torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype))  # moves the statistics
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by_file", [False, True])
def test_weights_buffers_precision_and_metadata_come_back(dtype, by_file, tmp_path):
    model = trained(dtype)
    path = save_checkpoint(tmp_path / "run" / ("net.safetensors" if by_file else ""), model, METADATA)
    assert path.name == ("net.safetensors" if by_file else "model.safetensors")
    loaded, metadata = load_checkpoint(path if by_file else tmp_path / "run")
    assert metadata == METADATA
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    for (name, expected), (other, got) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other
        assert expected.dtype == got.dtype
        assert torch.equal(expected, got)
    assert not [p for p in path.parent.iterdir() if "partial" in p.name]


def test_loading_leaves_the_global_random_state(tmp_path):
    save_checkpoint(tmp_path, trained(), METADATA)
    before = torch.get_rng_state()
    load_checkpoint(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_a_truncated_file_is_reported(tmp_path):
    path = save_checkpoint(tmp_path, trained(), METADATA)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        expect_error(tmp_path, "was changed or cut after it was written")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit of a weight
    expect_error(tmp_path, "was changed or cut after it was written")
    path.write_bytes(whole)
    metadata = path.with_suffix(".json")
    metadata.write_text(metadata.read_text()[:-5])
    expect_error(tmp_path, "must be a readable JSON file")


def test_a_foreign_file_is_reported(tmp_path):
    path = save_checkpoint(tmp_path, trained(), METADATA)
    path.with_suffix(".json").write_text(json.dumps(METADATA))  # as earlier versions wrote it, without a checksum
    path.write_bytes(b"PK\x03\x04 not safetensors at all, perhaps a pickle")
    expect_error(tmp_path, "must be a complete safetensors file")
    save_file({"weight": torch.ones(3)}, path)
    expect_error(tmp_path, r"missing \['blocks.0.branch.0.weight', .*, unexpected \['weight'\]")
    weights = trained().state_dict()
    save_file(weights | {"head.bias": torch.ones(3)}, path)
    expect_error(tmp_path, r"head.bias is \(3,\), expected \(10,\)")
    save_file({name: t for name, t in weights.items() if "running_mean" not in name}, path)
    expect_error(tmp_path, "missing .*running_mean")


def test_missing_files_are_reported(tmp_path):
    expect_error(tmp_path / "nowhere", "must be a run folder or a .safetensors file, found no file")
    path = save_checkpoint(tmp_path, trained(), METADATA)
    path.with_suffix(".json").unlink()
    expect_error(tmp_path, "must be a readable JSON file")


@pytest.mark.parametrize("model", [None, "resnet", {"name": "resnet"}, {"name": "resnet", "settings": 3}])
def test_metadata_must_say_how_to_build_the_model(model, tmp_path):
    with pytest.raises(ValueError, match='metadata must hold "model"'):
        save_checkpoint(tmp_path, nn.Linear(1, 1), {"model": model})
    assert not list(tmp_path.iterdir())
    path = save_checkpoint(tmp_path, trained(), METADATA)
    path.with_suffix(".json").write_text(json.dumps({"model": model}))
    expect_error(tmp_path, 'must hold "model"')


def test_an_unknown_model_is_reported(tmp_path):
    path = save_checkpoint(tmp_path, trained(), METADATA)
    path.with_suffix(".json").write_text(json.dumps({"model": {"name": "lenet", "settings": {}}}))
    expect_error(tmp_path, "model must be one of")


def expect_error(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
