"""The Fisher matrix beside the divergence, and the landscapes of other people's papers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts.landscapes import published_landscapes
from analysis_scripts.toys import fisher_and_divergence as divergences


def test_the_divergence_is_that_of_torch_and_keeps_its_digits_where_both_are_close():
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 5, generator=source, dtype=torch.float64)
    step = torch.randn(7, 5, generator=source, dtype=torch.float64)
    p, q = logits.log_softmax(-1), (logits + step).log_softmax(-1)
    expected = float(F.kl_div(q, p, log_target=True, reduction="batchmean"))
    assert divergences.divergence(p, q) == pytest.approx(expected, rel=1e-13)
    tiny = (logits + 1e-7 * step).log_softmax(-1)
    mean = (p.exp() * step).sum(1, keepdim=True)
    variance = float((p.exp() * (step - mean) ** 2).sum(1).mean())  # of the step under p: the Fisher matrix of logits
    assert divergences.divergence(p, tiny) == pytest.approx(1e-14 * variance / 2, rel=1e-5)


def test_ratios_of_a_bernoulli_have_their_series():
    model = nn.Linear(1, 2, bias=False).double()  # p = σ(a − b)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3], [-0.2]]))
    x = torch.ones(1, 1, dtype=torch.float64)
    problem = ls.Problem(model, F.cross_entropy, (x, torch.tensor([0])))
    length, way = torch.tensor([1e-3], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = divergences.ratios(problem, way, length)
    p = float(torch.sigmoid(torch.tensor(0.5, dtype=torch.float64)))
    # KL = t² A''/2 + t³ A'''/6 + t⁴ A''''/24, A = log(1 + exp): A'' = p(1 − p), A'''/A'' = 1 − 2p
    assert float(found["odd part"]) == pytest.approx(1e-3 * (1 - 2 * p) / 3, rel=1e-5)
    assert float(found["both sides"]) == pytest.approx(1e-6 * (1 - 6 * p * (1 - p)) / 12, rel=1e-2)
    assert float(found["one side"]) == pytest.approx(float(found["odd part"] + found["both sides"]), rel=1e-9)
    assert float(found["reverse"]) == pytest.approx(1e-3 * 2 * (1 - 2 * p) / 3, rel=1e-2)


def test_fisher_and_divergence(tmp_path):
    config = divergences.Config(hidden=8, steps=20, images=50, folder=str(tmp_path))
    found = divergences.main(config)
    assert [own["verdict"] for own in found["claims"]] == ["agrees", "agrees"]


def test_published_landscapes(tmp_path):
    config = published_landscapes.Config(
        seeds=(1,), epochs=4, swa_from=2, most_epochs=2, rays=2, points=5, workers=1,
        setting={"model": "mlp", "model_settings": {"hidden": [6, 5]}, "label_noise": 0.2},
        folder=str(tmp_path / "figure"), runs=str(tmp_path / "runs"),
    )  # fmt: skip
    found = published_landscapes.main(config)
    folder = tmp_path / "runs" / "SGD-1"
    problem = published_landscapes.problem_of(folder)
    dense = ls.hessian(problem).dense()
    kept = found["numbers"]["SGD"][0]
    assert kept["lambda_max"] == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-3)
    first = 64 * 6 + 6  # the weights and biases of the first layer
    assert kept["blocks"]["first"] == pytest.approx(float(torch.linalg.eigvalsh(dense[:first, :first])[-1]), rel=1e-3)
    large = ls.load_checkpoint(tmp_path / "runs" / "large-batches-1")[1]["config"]
    assert (large["batch_size"], large["stop_at_loss"]) == (config.large, config.loss)


def test_published_claims_have_their_signs():
    base = {"lambda_max": 1.0, "test_accuracy": 0.9, "test_loss": 1.0, "rise": 1.0, "blocks": {"a": 9.0, "b": 3.0}}
    other = {"lambda_max": 2.0, "test_accuracy": 0.8, "test_loss": 0.5, "rise": 0.5, "blocks": {}}

    def seeds(own):
        return [{**own, "lambda_max": own["lambda_max"] + 0.1 * seed} for seed in range(3)]

    kinds = {
        "small batches": base,
        "large batches": other,
        "SGD": base,
        "SAM": other,
        "constant lr": base,
        "SWA": other,
    }
    config = published_landscapes.Config()
    found = published_landscapes.claims(config, {kind: seeds(own) for kind, own in kinds.items()})
    assert [own.verdict for own in found] == ["agrees"] * 6
    assert found[1].found.startswith("+10.0 [")
    swapped = kinds | {"large batches": base, "small batches": other, "SAM": base, "constant lr": other, "SWA": base}
    found = published_landscapes.claims(config, {kind: seeds(own) for kind, own in swapped.items()})
    assert [own.verdict for own in found] == ["differs"] * 4 + ["cannot say", "agrees"]
