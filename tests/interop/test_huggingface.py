"""Steps of the Trainer against the same steps in a plain loop, on a GPT-2 and a BERT of a few hundred weights."""

import sys
from pathlib import Path

import pytest
import torch
from step_cases import weights
from torch.nn import functional as F

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from landscape.interop.huggingface import SharpnessAwareTrainer  # noqa: E402
from landscape.training.rules import friendly_sam, gsam, sam, sam_second_order  # noqa: E402
from landscape.training.sharpness_aware.step import SharpnessAware  # noqa: E402

SCRIPTS = Path(__file__).parents[2] / "analysis_scripts" / "examples"
SAMPLES, LENGTH, VOCABULARY = 5, 6, 11  # in micro-batches of 2, 2 and 1, with unequal numbers of tokens


def gpt2(dropout=0.0):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=4, n_layer=1, n_head=2, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0, attn_pdrop=dropout, embd_pdrop=dropout, resid_pdrop=dropout,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def texts():
    ids = torch.randint(VOCABULARY, (SAMPLES, LENGTH), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, 0] = -100
    for i in range(SAMPLES):
        labels[i, LENGTH - i :] = -100
    return {"input_ids": ids, "labels": labels}


def token_mean(outputs, labels, num_items_in_batch):
    """In float64, where the models' own loss is in float32."""
    z = outputs.logits[:, :-1].flatten(0, 1)
    return F.cross_entropy(z, labels[:, 1:].flatten(), reduction="sum") / num_items_in_batch


def trainer(model, folder, rule=None, optimizer=None, loss=None, **arguments):
    """Four steps, each on all the data in three micro-batches; the plain Trainer without a rule."""
    settings = {"max_steps": 4, "max_grad_norm": 0.05, "save_strategy": "no", "logging_steps": 1}
    data = texts()
    kind = transformers.Trainer if rule is None else SharpnessAwareTrainer
    return kind(
        model,
        transformers.TrainingArguments(
            output_dir=str(folder), per_device_train_batch_size=2, gradient_accumulation_steps=3, use_cpu=True,
            report_to="none", disable_tqdm=True, **(settings | arguments),
        ),
        train_dataset=[{key: column[i] for key, column in data.items()} for i in range(SAMPLES)],
        optimizers=(optimizer, None),
        compute_loss_func=loss,
        **({} if rule is None else {"rule": rule}),
    )  # fmt: skip


def base(model):
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


def plain_loop(model, rule, autocast=False):
    """The same four steps without micro-batches, the learning rate falling linearly to 0."""
    opt = SharpnessAware(base(model), rule, model=model, max_norm=0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 1 - step / 4)
    data, losses = texts(), []

    def closure():
        opt.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = model(input_ids=data["input_ids"])
        loss = token_mean(outputs, data["labels"], (data["labels"] != -100).sum())
        loss.backward()
        return loss.detach()

    for _ in range(4):
        losses.append(float(opt.step(closure)))
        scheduler.step()
    return losses


def rounded(log):
    """The losses of a training, as logged."""
    return [float(row["loss"]) for row in log if "loss" in row]


@pytest.mark.parametrize("rule", [sam(0.3), gsam(0.3, 2.0), sam_second_order(0.3)], ids=lambda rule: rule.name)
def test_micro_batches_clipping_and_schedules_are_those_of_a_plain_loop(rule, tmp_path):
    model, twin = gpt2().double(), gpt2().double().train()
    before = weights(model)
    training = trainer(model, tmp_path, rule, base(model), token_mean)
    training.train()
    losses = plain_loop(twin, rule)
    tolerance = 1e-6 if rule.context else 1e-10  # differences of gradients amplify rounding
    torch.testing.assert_close(weights(model) - before, weights(twin) - before, rtol=tolerance, atol=1e-3 * tolerance)
    assert rounded(training.state.log_history) == pytest.approx(losses, abs=1e-3)  # those of pass 1
    assert (weights(model) - before).norm() > 0.01


@pytest.mark.parametrize("bf16", [False, True])
def test_the_models_own_token_average_in_single_and_mixed_precision(bf16, tmp_path):
    model, twin = gpt2(), gpt2().train()
    before = weights(model)
    trainer(model, tmp_path, sam(0.3), base(model), bf16=bf16).train()
    plain_loop(twin, sam(0.3), autocast=bf16)
    error = (weights(model) - weights(twin)).norm() / (weights(twin) - before).norm()
    assert error < (0.02 if bf16 else 1e-5)


def test_radius_zero_is_the_plain_trainer_to_the_bit_also_with_dropout(tmp_path):
    model, twin = gpt2(0.5), gpt2(0.5)
    for rule, each in ((sam(0.0), model), (None, twin)):
        trainer(each, tmp_path, rule, weight_decay=0.1, learning_rate=0.1).train()
    assert torch.equal(weights(model), weights(twin))
    assert not torch.equal(weights(model), weights(gpt2()))


def test_both_passes_see_the_same_dropout_masks_and_the_next_step_others(tmp_path):
    masks, model = [], gpt2(0.5)
    model.transformer.drop.register_forward_hook(lambda _m, _x, output: masks.append(output == 0))
    trainer(model, tmp_path, sam(0.3), max_steps=2).train()
    assert len(masks) == 12
    for step in (masks[:6], masks[6:]):
        assert all(torch.equal(a, b) for a, b in zip(step[:3], step[3:], strict=True))
    assert not torch.equal(masks[0], masks[6])
    assert not torch.equal(masks[0], masks[1])


def test_a_training_resumes_to_the_bit(tmp_path):
    """With a rule that has a state, AdamW, shuffled data and dropout."""
    model, twin = gpt2(0.1), gpt2(0.1)
    settings = {"save_strategy": "steps", "save_steps": 2, "learning_rate": 0.1}
    trainer(model, tmp_path, friendly_sam(0.3), **settings).train()
    resumed = trainer(twin, tmp_path / "other", friendly_sam(0.3), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(weights(model), weights(twin))
    other = trainer(gpt2(0.1), tmp_path / "other", sam(0.3), **settings)
    with pytest.raises(ValueError, match=r"state must be of rule 'sam', got 'friendly_sam'"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


class StopEarly(transformers.TrainerCallback):
    """Before the first step, in the middle of its micro-batches."""

    def __init__(self):
        self.stopped = False

    def on_substep_end(self, args, state, control, **_):
        control.should_training_stop = not self.stopped
        self.stopped = True


def test_a_training_that_was_stopped_between_micro_batches_can_start_again(tmp_path):
    model, twin = gpt2(), gpt2()
    stopped = trainer(model, tmp_path, sam(0.3), base(model))
    stopped.add_callback(StopEarly())
    stopped.train()
    assert torch.equal(weights(model), weights(twin))
    stopped.train()
    trainer(twin, tmp_path, sam(0.3), base(twin)).train()
    assert torch.equal(weights(model), weights(twin))


def test_a_gradient_that_is_not_finite_skips_the_step(tmp_path):
    model = gpt2()
    torch.nn.init.constant_(model.transformer.ln_f.bias, float("inf"))
    before = weights(model)
    with pytest.warns(UserWarning, match="pass 1 is not finite: step skipped"):
        trainer(model, tmp_path, sam(0.3), weight_decay=0.1, max_steps=1).train()
    assert torch.equal(weights(model), before)


def test_scaled_gradients_are_refused(tmp_path):
    model = gpt2()
    training = trainer(model, tmp_path, sam(0.3))
    arguments = training.args
    arguments.fp16 = True  # which TrainingArguments themselves want a GPU for
    with pytest.raises(ValueError, match="got fp16; take bf16=True"):
        SharpnessAwareTrainer(model, arguments, rule=sam(0.3))


def test_the_example_learns_the_digits(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import huggingface_sam

    sys.modules.pop("huggingface_sam")
    training = huggingface_sam.main(20, str(tmp_path), use_cpu=True, disable_tqdm=True)
    losses = rounded(training.state.log_history)
    assert losses[-1] < losses[0] < 2.4  # log 10 and what the first weights add
