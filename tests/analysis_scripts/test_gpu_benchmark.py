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

    def ran(minutes=4.0):
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
    assert "on cpu" in rows["small CNN", "product", "ours, replayed"]["failure"]
    assert "on cpu" in rows["small CNN", "3 x 3 grid", "ours, replayed"]["failure"]
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


@pytest.mark.filterwarnings("default")
def test_a_row_that_takes_too_long_is_given_up_and_the_others_come(run, monkeypatch):
    import gpu
    import large

    def endless(_setting, _seed):
        while True:
            pass

    monkeypatch.setattr(gpu, "LEAST", 0.2)
    monkeypatch.setattr(gpu, "ROW", 0.0)
    monkeypatch.setitem(gpu.QUESTIONS, "trace", {"pyhessian": endless, "ours": gpu.QUESTIONS["trace"]["ours"]})
    monkeypatch.setattr(large, "NETWORKS", {})
    monkeypatch.setattr(gpu, "NETWORKS", {"small CNN": large.convolutions})
    rows = run()
    assert rows["small CNN", "trace", "pyhessian"]["failure"] == "given up after 0 s"
    assert "failure" not in rows["small CNN", "gradient", "torch"]
    assert ("small CNN", "density", "ours") in rows


@pytest.mark.filterwarnings("default")
def test_a_large_network_is_asked_on_its_first_batch(run, monkeypatch):
    import gpu
    import large

    monkeypatch.setattr(gpu, "NETWORKS", {"small CNN": large.convolutions})
    monkeypatch.setattr(gpu, "WHOLE", 1)
    rows = run()
    for question in ("eigenvalues", "trace", "density"):
        assert rows["small CNN, 4", question, "ours"]["gradients"] > 0
    assert "failure" not in rows["small CNN", "product", "ours"]


def test_the_plain_networks_have_their_usual_sizes(scripts):
    import large

    assert sum(p.numel() for p in large.resnet18().parameters()) == 11_173_962  # as published for CIFAR-10
