"""Curvature and geodesic sharpness of the real BERT and GPT-2, a few hundred weights each, in float64."""

import oracles
import pytest
import torch
from cases import Case
from torch.nn import functional as F

import landscape as ls
from landscape.metrics.invariant_pairs import attention_pairs

transformers = pytest.importorskip("transformers")

SHAPE = {"bert": {"num_attention_heads": 2, "hidden_size": 4, "num_hidden_layers": 1, "intermediate_size": 3}}
SHAPE["gpt2"] = {"n_head": 2, "n_embd": 4, "n_layer": 1, "n_inner": 3, "n_positions": 5, "pad_token_id": 0}
SHAPE["bert"] |= {"max_position_embeddings": 5, "type_vocab_size": 1}
COMMON = {"vocab_size": 6, "num_labels": 3, "initializer_range": 0.5, "attn_implementation": "sdpa"}


def classifier(name):
    """Sequences of 5 tokens in a mapping, every second one padded."""
    config, kind = {
        "bert": (transformers.BertConfig, transformers.BertForSequenceClassification),
        "gpt2": (transformers.GPT2Config, transformers.GPT2ForSequenceClassification),
    }[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config(**COMMON, **SHAPE[name])).double()
        for p in model.parameters():
            p.data += 0.2 * torch.randn_like(p)  # biases as well
        ids, mask = torch.randint(1, 6, (64, 5)), torch.ones(64, 5, dtype=torch.int64)
        mask[::2, 3:] = 0
        targets = torch.randint(3, (64,))
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    return Case(model, F.cross_entropy, inputs, targets, forward=lambda net, x: net(**x).logits)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_products_and_eigenpairs_are_those_of_the_dense_hessian(name):
    case = classifier(name)
    problem = case.problem()
    dense = oracles.hessian(case)
    v = torch.randn(problem.size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ls.hessian(problem).matmat(v), dense @ v, rtol=1e-9, atol=1e-9)
    values = torch.linalg.eigvalsh(dense)
    pairs = ls.top_eigenpairs(ls.hessian(problem), 3, which="LA", tol=1e-8)
    torch.testing.assert_close(pairs.values, values.flip(0)[:3], rtol=1e-8, atol=0)


def test_a_weight_counts_tokens():
    """Of a language model whose batches have unequal numbers of them."""
    case = classifier("gpt2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.GPT2Config(**COMMON, **SHAPE["gpt2"])
        model = transformers.GPT2LMHeadModel(config).double()
    targets = torch.where(case.inputs["attention_mask"] == 1, case.inputs["input_ids"], -100)

    def token_mean(z, t):
        return F.cross_entropy(z[:, :-1].flatten(0, 1), t[:, 1:].flatten(), ignore_index=-100)

    texts = Case(model, token_mean, case.inputs, targets, case.forward, lambda _, t: (t[:, 1:] != -100).sum())
    torch.testing.assert_close(texts.problem().gradient(), oracles.gradient(texts), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_all_heads_are_paired_and_turning_a_pair_leaves_the_outputs(name):
    problem = classifier(name).problem()
    pairs = attention_pairs(problem)
    assert [pair.G.shape[0] for pair in pairs] == [2, 2]  # query with key, output with value, of two heads
    for pair in pairs:
        heads, _, r = pair.G.shape
        A = torch.eye(r, dtype=torch.float64) + 0.3 * torch.randn(
            heads, r, r, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
        )
        turned = problem.vector()
        turned[pair.G] = turned[pair.G] @ A
        broken = turned.clone()
        turned[pair.H] = turned[pair.H] @ torch.linalg.inv(A).transpose(1, 2)
        z = problem.outputs()
        torch.testing.assert_close(problem.outputs(turned), z, rtol=1e-10, atol=1e-10)
        assert (problem.outputs(broken) - z).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_geodesic_sharpness_is_the_same_after_a_turn(name):
    """In the mixed metric, which the symmetry leaves as it is."""
    case = classifier(name)
    problem = case.problem()
    before = ls.metrics.geodesic(problem, rho=0.02, steps=1)
    w = problem.vector()
    pair = attention_pairs(problem)[0]
    A = torch.tensor([[1.2, 0.3], [-0.2, 0.9]], dtype=torch.float64).expand(2, 2, 2)
    w[pair.G] = w[pair.G] @ A
    w[pair.H] = w[pair.H] @ torch.linalg.inv(A).transpose(1, 2)
    torch.nn.utils.vector_to_parameters(w, problem.model.parameters())
    after = ls.metrics.geodesic(problem, rho=0.02, steps=1)
    assert before.details["pairs"] == 4.0
    torch.testing.assert_close(after.value, before.value, rtol=1e-8, atol=0)
