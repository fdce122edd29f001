"""Language models whose logits are made for some tokens at a time, against the same without."""

import pytest
import torch
from allocated import held_by_two_products
from cases import normal
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.curvature import fisher, product_memory

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from landscape.interop.huggingface import causal_lm_problem  # noqa: E402

IDS = torch.tensor([[1, 4, 2, 5, 3, 0], [3, 3, 1, 0, 2, 4], [5, 1, 4, 2, 2, 1]])
KINDS = {
    "hessian": ls.hessian,
    "ggn": ls.ggn,
    "exact": fisher,
    "sampled": lambda p, **how: fisher(p, "sampled", samples=2, **how),
    "empirical": lambda p, **how: fisher(p, "empirical", **how),
}
NETWORKS = ["gpt2", "llama"]


def network(name, *, tied=True, vocabulary=6, width=4):
    common = {"vocab_size": vocabulary, "tie_word_embeddings": tied, "initializer_range": 0.5}
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "gpt2":
            config = transformers.GPT2Config(
                n_head=2, n_embd=width, n_layer=1, n_inner=3, n_positions=16, **common, **tokens
            )
            return transformers.GPT2LMHeadModel(config).double().eval()
        shape = {"hidden_size": width, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.LlamaConfig(**shape, num_key_value_heads=1, **common, **tokens)
        return transformers.LlamaForCausalLM(config).double().eval()


def ragged():
    """Prompts and ends that do not count, a sequence of which nothing does, and a shorter batch."""
    labels = IDS.clone()
    labels[0, :3] = labels[1, 4:] = labels[2] = -100
    return [{"input_ids": IDS, "labels": labels}, {"input_ids": IDS[:1, :4]}]


def both(model, data=None, **how):
    """A piece of four tokens goes over the end of a sequence of five."""
    return causal_lm_problem(model, data or ragged(), **how), causal_lm_problem(
        model, data or ragged(), tokens_at_once=4, **how
    )


def off(one, two):
    return float((one - two).norm() / two.norm())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_gradient_and_slices_are_the_same(name, tied):
    whole, cut = both(network(name, tied=tied))
    direction = normal(whole.size)
    torch.testing.assert_close(cut.loss(), whole.loss(), rtol=1e-12, atol=0)
    assert off(cut.gradient(), whole.gradient()) < 1e-12
    expected, found = (ls.slice_1d(p, direction, (-1, 1, 3), progress=False) for p in (whole, cut))
    torch.testing.assert_close(found.loss["train"], expected.loss["train"], rtol=1e-12, atol=0)
    assert torch.equal(found.accuracy["train"], expected.accuracy["train"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "tied"), [("gpt2", True), ("llama", False)])
def test_products_are_the_same(name, tied, kind):
    whole, cut = (KINDS[kind](p) for p in both(network(name, tied=tied)))
    block = normal(whole.shape[0], 2)
    assert off(cut @ block, whole @ block) < 1e-9
    assert cut.mode == "double_backward"
    assert cut.verified < (1e-4 if name == "gpt2" else 2e-2)  # RMSNorm is in float32


@pytest.mark.parametrize("kind", KINDS)
def test_products_by_differences_are_the_same(kind):
    whole, cut = both(network("gpt2"))
    operator, v = KINDS[kind](cut, mode="central_differences"), normal(whole.size)
    assert off(operator @ v, KINDS[kind](whole) @ v) < 1e-6
    assert operator.verified < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["lm_head", "model.layers"])
def test_products_with_a_part_of_the_weights_are_the_same(part, kind):
    problems = both(network("llama", tied=False), parameters=lambda name, _: name.startswith(part))
    whole, cut = (KINDS[kind](p) for p in problems)
    v = normal(whole.shape[0])
    assert off(cut @ v, whole @ v) < 1e-9


def test_rows_are_cut_besides():
    problems = both(network("gpt2"), [{"input_ids": IDS}])
    whole, cut = (ls.hessian(p, micro_batch=2) for p in problems)
    v = normal(whole.shape[0])
    assert off(cut @ v, whole @ v) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_logits_are_held_and_that_is_told_before(kind):
    problem = causal_lm_problem(network("gpt2", vocabulary=2000), [{"input_ids": IDS.repeat(4, 2)}], tokens_at_once=4)
    operator = KINDS[kind](problem, verify=False, memory=10**9)
    told = product_memory(operator)
    problem.loss()
    v = torch.ones(problem.size, dtype=torch.float64)
    held = held_by_two_products(operator, v)
    assert told == pytest.approx(held, rel=0.2)
    logits, piece, weights = (8 * n * 2000 for n in (12 * 11, 4, 4))
    assert held < 12 * piece + 12 * weights < logits


def test_a_hook_before_the_head_acts_once():
    model = network("gpt2")
    model.lm_head.register_forward_pre_hook(lambda _head, states: 2 * states[0])
    whole, cut = both(model)
    torch.testing.assert_close(cut.loss(), whole.loss(), rtol=1e-12, atol=0)
    assert off(cut.gradient(), whole.gradient()) < 1e-12
    assert len(model.lm_head._forward_pre_hooks) == 1


def test_logits_within_the_models_own_autocast_are_refused():
    model = network("gpt2").float()
    own = model.forward

    def forward(**inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return own(**inputs)

    model.forward = forward
    _, cut = both(model)
    with pytest.raises(ValueError, match="needs logits outside of the model's own autocast"):
        cut.loss()
    del model.forward
    with torch.autocast("cpu", torch.bfloat16):
        whole, cut = both(model)
        torch.testing.assert_close(cut.loss(), whole.loss(), rtol=1e-2, atol=0)


class Changed(nn.Module):
    """Logits that something is done to."""

    def __init__(self, model, change):
        super().__init__()
        self.inner, self.change = model, change

    def get_output_embeddings(self):
        return self.inner.lm_head

    def forward(self, **inputs):
        return (self.change(self.inner(**inputs).logits),)


@pytest.mark.parametrize(
    "change",
    [
        lambda z: 2 * z,
        lambda z: 30 * torch.tanh(z / 30),
        lambda z: z.flip(0),
        lambda z: z.flip(1),
        lambda z: z.roll(1, 1),
        lambda z: z.sort(-1, descending=True).values,
        lambda z: z[..., :-1],
        lambda z: z.sub_(1),
        lambda z: z.masked_fill_(torch.arange(6) == 5, -1e9),
    ],
)
def test_logits_that_are_changed_are_refused(change):
    cut = causal_lm_problem(Changed(network("gpt2"), change), ragged(), tokens_at_once=4)
    with pytest.raises(ValueError, match=r"and nothing else, got a Changed that does more \(soft caps, scales\)"):
        cut.loss()


def test_logits_that_are_copied_are_not_changed():
    whole, _ = both(network("gpt2"))
    cut = causal_lm_problem(Changed(network("gpt2"), lambda z: z.clone()), ragged(), tokens_at_once=4)
    torch.testing.assert_close(cut.loss(), whole.loss())


def test_what_cannot_be_cut_is_refused():
    model = network("gpt2")
    with pytest.raises(ValueError, match="tokens_at_once must be an integer at least 1"):
        causal_lm_problem(model, ragged(), tokens_at_once=0)
    with pytest.raises(ValueError, match="needs a model with get_output_embeddings"):
        causal_lm_problem(nn.Linear(2, 2), ragged(), tokens_at_once=4)
    cut = causal_lm_problem(model, ragged(), tokens_at_once=4)
    with pytest.raises(ValueError, match=r"got hidden states in place of logits \(tokens_at_once=\)"):
        cut.outputs()
    with pytest.raises(ValueError, match=r"\(tokens_at_once=\) have no forward derivative; use mode='auto'"):
        ls.hessian(cut, mode="forward_over_reverse") @ cut.vector()
    assert "forward" not in vars(model.lm_head)
    assert F.cross_entropy is cut.criterion.criterion
