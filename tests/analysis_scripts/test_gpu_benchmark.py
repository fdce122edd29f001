import json
import sys
from dataclasses import replace

import pytest


@pytest.fixture
def run(scripts, monkeypatch, tmp_path):
    """A small run on the CPU; the rows of the JSON by network, question and contender."""
    import gpu
    from setting import Config

    monkeypatch.setattr(gpu, "EVERY", 60)
    config = replace(Config(device="cpu"), k=2, trace_matvecs=8, density_steps=6, chunk=2)

    def ran(minutes=1.0):
        found = gpu.main(tmp_path / "gpu.json", config, minutes=minutes, small=True)
        assert json.loads((tmp_path / "gpu.json").read_text()) == json.loads(json.dumps(found))
        return {(row["network"], row["question"], row["contender"]): row for row in found["rows"]}

    return ran


@pytest.mark.filterwarnings("default")  # what other packages warn of is theirs
def test_a_small_run_has_every_network_question_and_package(run, capsys):
    import large

    rows = run()
    assert rows["small", "device subset", "all"]["wrong"] == 0
    for network in large.NETWORKS:
        if "failure" in rows.get((network, "all", ""), {}):
            continue  # transformers is not installed
        for question in ("eigenvalues", "trace", "density", "product"):
            for package in ("ours", "pyhessian", "curvlinops"):
                assert (network, question, package) in rows
        for question, contender in (("first product", "ours"), ("3 x 3 grid", "ours"), ("step", "sam")):
            assert rows[network, question, contender]["seconds"] > 0
    assert not [key for key, row in rows.items() if key[2] in ("ours", "torch", "sam", "sgd") and "failure" in row]
    assert "ResNet-18" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_packages_that_are_missing_have_rows_that_say_so(run, monkeypatch):
    import large

    monkeypatch.setitem(sys.modules, "pyhessian", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(large.NETWORKS, "ViT-B/16")
    rows = run()
    assert rows["GPT-2", "all", ""]["failure"].startswith("not installed")
    assert rows["ResNet-18", "trace", "pyhessian"]["failure"].startswith("not installed")
    assert "failure" not in rows["ResNet-18", "trace", "ours"]


@pytest.mark.filterwarnings("default")
def test_a_run_that_is_out_of_time_ends_with_what_is_there(run, capsys):
    rows = run(minutes=0.01)
    assert rows["", "", ""]["failure"] == "0.01 minutes are over"
    assert len(rows) < 20
    assert "minutes are over" in capsys.readouterr().out.splitlines()[-1]


def test_the_plain_networks_have_their_usual_sizes(scripts):
    import large

    assert sum(p.numel() for p in large.resnet18().parameters()) == 11_173_962  # as published for CIFAR-10
