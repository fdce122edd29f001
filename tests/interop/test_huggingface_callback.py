"""CurvatureCallback in a Hugging Face Trainer, against trainings without it and dense derivatives."""

import pytest
import torch
from cases import everything, same
from torch import nn
from torch.autograd.functional import hessian
from torch.nn import functional as F

import landscape as ls

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from landscape.interop.huggingface import CurvatureCallback, SharpnessAwareTrainer  # noqa: E402

SAMPLES, LENGTH, VOCABULARY = 6, 5, 7
TIMES = ("gradient_times", "seconds")


def gpt2(dropout=0.0):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=4, n_layer=1, n_head=2, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0, attn_pdrop=dropout, embd_pdrop=dropout, resid_pdrop=dropout,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def bert(kind):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=LENGTH, num_labels=3, hidden_size=4, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=4, initializer_range=0.3,
    )  # fmt: skip
    return getattr(transformers, f"BertFor{kind}")(config)


def texts():
    """With unequal numbers of tokens that count, and no 0: the embedding of padding has no gradient."""
    ids = torch.randint(1, VOCABULARY, (SAMPLES, LENGTH), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    for i in range(SAMPLES - 1):
        labels[i, LENGTH - i :] = -100
    return {"input_ids": ids, "labels": labels}


def classes(count=3, tokens=False):
    found = texts()
    found["labels"] = (
        found["labels"] % count if not tokens else torch.where(found["labels"] < 0, -100, found["labels"] % count)
    )
    return found if tokens else found | {"labels": found["labels"][:, 0].abs()}


def trainer(model, folder, callbacks=(), data=None, kind=transformers.Trainer, arguments=None, **settings):
    data = texts() if data is None else data
    given = {"max_steps": 4, "save_strategy": "no", "logging_steps": 1, "learning_rate": 0.01} | (arguments or {})
    return kind(
        model,
        transformers.TrainingArguments(
            output_dir=str(folder), per_device_train_batch_size=2, use_cpu=True, report_to="none", disable_tqdm=True,
            **given,
        ),
        train_dataset=[{key: column[i] for key, column in data.items()} for i in range(SAMPLES)],
        callbacks=[*callbacks],
        **settings,
    )  # fmt: skip


def numbers(row):
    return {name: value for name, value in vars(row).items() if name not in TIMES}


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_watched_training_is_the_same_to_the_bit(accumulated, tmp_path):
    ends, losses = [], []
    for watched in (False, True):
        model = gpt2(0.5)
        callback = CurvatureCallback(every=2, samples=4, matvecs=3)
        training = trainer(
            model, tmp_path, [callback] if watched else [], arguments={"gradient_accumulation_steps": accumulated}
        )
        training.train()
        ends.append(everything(model))
        losses.append([row["loss"] for row in training.state.log_history if "loss" in row])
    assert [row.step for row in callback.rows] == [2, 4]
    assert same(*ends)
    assert losses[0] == losses[1]


def dense(model, mean):
    """Loss and Hessian of `mean(logits)` over all data at once."""
    names, shapes = zip(*[(name, p.shape) for name, p in model.named_parameters()], strict=True)

    def loss(w):
        pieces = w.split([shape.numel() for shape in shapes])
        placed = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return mean(torch.func.functional_call(model, placed, (), {"input_ids": texts()["input_ids"]}).logits)

    w = nn.utils.parameters_to_vector(model.parameters()).detach()
    return float(loss(w)), hessian(loss, w)


def causal(labels):
    return lambda z: F.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def each_token(labels):
    return lambda z: F.cross_entropy(z.flatten(0, 1), labels.flatten())


def each_text(labels):
    return lambda z: F.cross_entropy(z, labels)


@pytest.mark.parametrize(
    ("make", "data", "mean"),
    [
        (gpt2, texts(), causal),
        (lambda: bert("TokenClassification"), classes(tokens=True), each_token),
        (lambda: bert("SequenceClassification"), classes(), each_text),
    ],
    ids=["causal", "tokens", "texts"],
)
def test_a_row_is_what_dense_derivatives_of_the_mean_give(make, data, mean, tmp_path):
    """Three batches that count unequally."""
    model = make()
    callback = CurvatureCallback(every=4, first_matvecs=100, trace_matvecs=0, rho=0)
    training = trainer(model, tmp_path, [callback], data)
    training.train()
    (row,) = callback.rows
    loss, H = dense(model.eval().double(), mean(data["labels"]))
    assert row.loss == pytest.approx(loss, rel=1e-5)
    assert row.lambda_max == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=1e-4)
    (logged,) = [log for log in training.state.log_history if "curvature/lambda_max" in log]
    assert (logged["step"], logged["curvature/lambda_max"]) == (4, row.lambda_max)


def test_attached_it_logs_by_the_trainer(tmp_path):
    told = []

    class Reporter(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            if "curvature/lambda_max" in logs:
                told.append((state.global_step, logs["curvature/lambda_max"]))

    training = trainer(gpt2(), tmp_path, [Reporter()])
    callback = CurvatureCallback(every=2, matvecs=3).attach(training)
    training.train()
    assert told == [(row.step, row.lambda_max) for row in callback.rows]
    assert [step for step, _ in told] == [2, 4]


def test_a_resumed_training_keeps_the_series(tmp_path):
    """The rows before are those of the log; the value after is found anew, hence within the residuals."""
    settings = {"save_strategy": "steps", "save_steps": 2}
    whole, resumed = (CurvatureCallback(every=1, first_matvecs=100) for _ in range(2))
    trainer(gpt2(0.1), tmp_path, [whole], arguments=settings).train()
    other = trainer(gpt2(0.1), tmp_path / "other", [resumed], arguments=settings)
    other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [row.step for row in resumed.rows] == [1, 2, 3, 4]
    assert [vars(row) for row in resumed.rows[:2]] == [vars(row) for row in whole.rows[:2]]
    for one, two in zip(resumed.rows[2:], whole.rows[2:], strict=True):
        assert one.loss == two.loss
        assert abs(one.lambda_max - two.lambda_max) <= one.residual + two.residual
    logged = [log["step"] for log in other.state.log_history if "curvature/lambda_max" in log]
    assert logged == [1, 2, 3, 4]


def test_under_sharpness_aware_steps_the_threshold_is_that_of_the_base(tmp_path):
    model = gpt2()
    callback = CurvatureCallback(every=2, matvecs=3)
    base = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    trainer(
        model, tmp_path, [callback], kind=SharpnessAwareTrainer, rule=ls.rules.sam(0.05), optimizers=(base, None)
    ).train()  # the learning rate falls linearly to 0 in four steps
    assert [row.threshold for row in callback.rows] == [pytest.approx(3.8 / 0.25), float("inf")]


def test_a_problem_of_ones_own_and_what_needs_one(tmp_path):
    arguments = {"label_smoothing_factor": 0.1}
    with pytest.raises(ValueError, match=r"model's own loss has no label smoothing; pass problem="):
        trainer(bert("SequenceClassification"), tmp_path, [CurvatureCallback()], classes(), arguments=arguments).train()
    model = bert("SequenceClassification")

    def problem(network):
        return ls.Problem(network, F.cross_entropy, [classes()])

    callback = CurvatureCallback(problem, every=4, matvecs=3)
    trainer(model, tmp_path, [callback], classes(), arguments=arguments).train()
    assert [row.loss for row in callback.rows] == [float(problem(model).loss())]
