"""Problems of Hugging Face models against the loss that the models compute themselves, on unequal, padded batches."""

import pytest
import torch
from cases import normal
from torch.nn import functional as F
from torch.utils.data import DataLoader

import landscape as ls

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from landscape.interop.huggingface import causal_lm_problem, sequence_classification_problem  # noqa: E402

LENGTHS = (5, 2, 4, 3, 5)  # of texts, in batches of 2, 2 and 1
GPT2 = {"n_head": 2, "n_embd": 4, "n_layer": 1, "n_inner": 3, "n_positions": 5, "pad_token_id": 0}
LLAMA = {"hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT = LLAMA | {"max_position_embeddings": 5, "type_vocab_size": 1}
COMMON = {"vocab_size": 6, "initializer_range": 0.5}
CLASSES = {
    "gpt2": (transformers.GPT2Config, "GPT2", GPT2),
    "llama": (transformers.LlamaConfig, "Llama", LLAMA | {"pad_token_id": 0}),
    "bert": (transformers.BertConfig, "Bert", BERT),
}


def network(name, head, **settings):
    """A few hundred weights."""
    config, prefix, shape = CLASSES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, prefix + head)(config(**COMMON, **shape, **settings))
        for p in model.parameters():
            p.data += 0.2 * torch.randn_like(p)
    return model.eval()


def collated(texts):
    """Padded to the longest of the batch; padding is no label."""
    longest = max(len(text["input_ids"]) for text in texts)
    pad = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    rows = {
        name: [F.pad(text[name], (0, longest - len(text[name])), value=value) for text in texts]
        if texts[0][name].ndim
        else [text[name] for text in texts]
        for name, value in pad.items()
    }
    return {name: torch.stack(row) for name, row in rows.items()}


def texts(labels=None):
    g = torch.Generator().manual_seed(1)
    found = []
    for i, length in enumerate(LENGTHS):
        ids = torch.randint(1, 6, (length,), generator=g)
        own = ids.clone() if labels is None else labels[i]
        if labels is None and i == 2:
            own[:2] = -100  # a prompt that does not count
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": own})
    return DataLoader(found, batch_size=2, collate_fn=collated)


def own_loss_and_gradient(model, loader, units):
    """Of the model's `loss`, batches weighted by `units` of their labels."""
    counts = [int(units(batch["labels"])) for batch in loader]
    losses = [model(**batch).loss for batch in loader]
    loss = sum(n * each for n, each in zip(counts, losses, strict=True)) / sum(counts)
    gradient = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], materialize_grads=True)
    return loss.detach(), torch.cat([part.flatten() for part in gradient]), sum(counts)


def assert_own(problem, model, loader, units):
    loss, gradient, count = own_loss_and_gradient(model, loader, units)
    torch.testing.assert_close(problem.loss(), loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(problem.gradient(), gradient, rtol=1e-4, atol=1e-6)
    assert problem.extent.units == count


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_next_tokens_are_the_models_own_loss(name):
    head = "LMHeadModel" if name == "gpt2" else "ForCausalLM"
    model, loader = network(name, head), texts()
    problem = causal_lm_problem(model, loader)
    assert_own(problem, model, loader, lambda labels: (labels[:, 1:] != -100).sum())
    v = normal(problem.size, dtype=torch.float32)
    assert float(v @ (ls.ggn(problem) @ v)) > 0
    assert ls.hessian(problem).shape == (problem.size, problem.size)


def test_tokens_are_their_own_labels_where_there_are_none():
    model, loader = network("gpt2", "LMHeadModel"), texts()
    labelled = [dict(batch) for batch in loader]
    bare = [{key: part for key, part in batch.items() if key != "labels"} for batch in loader]
    for batch in labelled:
        batch["labels"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)
    found, expected = causal_lm_problem(model, bare), causal_lm_problem(model, labelled)
    assert found.loss() == expected.loss()
    assert found.extent.units == expected.extent.units == sum(LENGTHS) - len(LENGTHS)


def test_precision_is_the_one_asked_for():
    model, loader = network("gpt2", "LMHeadModel"), texts()
    exact, half = causal_lm_problem(model, loader, dtype=torch.float64), model.bfloat16()
    reference = exact.loss()
    assert reference.dtype == torch.float64
    found = causal_lm_problem(half, loader).loss()
    torch.testing.assert_close(found.double(), reference, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
@pytest.mark.parametrize("kind", ["classes", "one number", "several numbers", "several labels"])
def test_sequences_are_classified_as_the_model_does(name, kind):
    labels, settings = {
        "classes": (torch.tensor([0, 2, 1, 2, 0]), {"num_labels": 3}),
        "one number": (normal(5, dtype=torch.float32), {"num_labels": 1}),
        "several numbers": (normal(5, 3, dtype=torch.float32), {"num_labels": 3, "problem_type": "regression"}),
        "several labels": (
            torch.randint(2, (5, 3)).float(),
            {"num_labels": 3, "problem_type": "multi_label_classification"},
        ),
    }[kind]
    model = network(name, "ForSequenceClassification", **settings)
    loader = [dict(batch) for batch in texts(torch.zeros(5))]
    for batch, own in zip(loader, labels.split((2, 2, 1)), strict=True):
        batch["labels"] = own
    assert_own(sequence_classification_problem(model, loader), model, loader, len)


def test_slices_and_metrics_of_batches_of_unequal_lengths():
    model, loader = network("gpt2", "LMHeadModel"), texts()
    problem = causal_lm_problem(model, loader)
    direction = normal(problem.size, dtype=torch.float32)
    line = ls.slice_1d(problem, direction, (-0.1, 0.1, 3), {"train": loader, "eval": loader}, progress=False)
    torch.testing.assert_close(line.loss["eval"][1], problem.loss().double(), rtol=1e-6, atol=0)
    hits = [
        (batch["labels"][:, 1:] == model(**batch).logits[:, :-1].argmax(-1))[batch["labels"][:, 1:] != -100]
        for batch in loader
    ]
    assert line.accuracy["train"][1] == pytest.approx(float(torch.cat(hits).double().mean()))
    found = ls.analyze(problem, ["gradient_norm", "m_sharpness", "worst_case_gap_normalized_l2"], progress=False)
    assert found["gradient_norm"].value == pytest.approx(float(problem.gradient().norm()), rel=1e-5)
    for name in ("m_sharpness", "worst_case_gap_normalized_l2"):  # they cut the data anew
        assert "samples must have one shape to go into one batch" in found.left_out[name]


def test_what_does_not_fit_is_refused():
    model = network("bert", "ForSequenceClassification", num_labels=3)
    with pytest.raises(ValueError, match=r"labels must be classes, got torch.float32; set model.config.problem_type"):
        sequence_classification_problem(model, texts(torch.zeros(5))).loss()
    model.config.problem_type = "ranking"
    with pytest.raises(ValueError, match=r"config\.problem_type must be one of"):
        sequence_classification_problem(model, texts())
    model = network("gpt2", "LMHeadModel")
    with pytest.raises(ValueError, match='batch 0: a batch must be a mapping with "input_ids", got list'):
        causal_lm_problem(model, DataLoader([(torch.ones(3), 1)])).loss()
    for setting, said in (("is_encoder_decoder", "an encoder with a decoder"), ("output_router_logits", "set it to")):
        other = network("gpt2", "LMHeadModel")
        setattr(other.config, setting, True)
        with pytest.raises(ValueError, match=said):
            causal_lm_problem(other, texts())
