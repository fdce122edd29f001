"""CurvatureCallback in a Lightning Trainer, against trainings without it and dense derivatives."""

import copy

import pytest
import torch
from cases import everything, same
from step_cases import data, network
from torch import nn
from torch.autograd.functional import hessian
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import landscape as ls

lightning = pytest.importorskip("lightning")

from lightning.pytorch.loggers import Logger  # noqa: E402

from landscape.interop.lightning import CurvatureCallback  # noqa: E402

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
    pytest.mark.filterwarnings("ignore:.*number of training batches.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
]
TIMES = ("gradient_times", "seconds")


class Module(lightning.LightningModule):
    def __init__(self, model, base=torch.optim.Adam, **settings):
        super().__init__()
        self.model, self.base, self.settings = model, base, {"lr": 0.01} | settings
        self.hits = torchmetrics_accuracy()
        self.scale = 1.0

    def configure_optimizers(self):
        return self.base(self.model.parameters(), **self.settings)

    def training_step(self, batch, batch_idx):
        z = self.model(batch[0])
        loss = self.scale * F.cross_entropy(z, batch[1])
        self.hits(z, batch[1])
        self.log("hits", self.hits, on_step=False, on_epoch=True)
        self.log_dict({"loss": loss}, on_step=False, on_epoch=True)
        return loss


def torchmetrics_accuracy():
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(3)


class Recorder(Logger):
    name, version = "recorder", 0

    def __init__(self):
        super().__init__()
        self.told = []

    def log_hyperparams(self, *_, **__): ...

    def log_metrics(self, metrics, step=None):
        self.told.append((step, metrics))


def loader(shuffle=False):
    x, y = data(count=24)
    return DataLoader(TensorDataset(x, y), batch_size=7, shuffle=shuffle)


def fitted(module, callback=None, data=None, **settings):
    trainer = lightning.Trainer(
        **(QUIET | {"max_epochs": 2, "callbacks": [callback] if callback else [], "num_sanity_val_steps": 0} | settings)
    )
    trainer.fit(module, loader() if data is None else data)
    return trainer


def numbers(row):
    return {name: value for name, value in vars(row).items() if name not in TIMES}


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_watched_training_is_the_same_to_the_bit_and_logs_the_same(accumulated):
    ends, logs = [], []
    for watched in (False, True):
        module = Module(network(nn.BatchNorm1d(5), nn.Dropout(0.5)))
        callback = CurvatureCallback(every=2, samples=10, matvecs=3) if watched else None
        torch.manual_seed(1)
        trainer = fitted(module, callback, loader(shuffle=True), accumulate_grad_batches=accumulated)
        ends.append(everything(module))
        logs.append({key: float(value) for key, value in trainer.callback_metrics.items()})
    assert len(callback.rows) == (4 if accumulated == 1 else 2)
    assert same(*ends)
    assert logs[0] == logs[1]
    assert {"hits", "loss"} <= logs[0].keys()


def test_a_row_is_what_dense_derivatives_of_the_training_loss_give():
    """Batches of 7, 7, 7 and 3 in the mean over samples, batch norm with its stored statistics, no dropout."""
    module = Module(network(nn.BatchNorm1d(5), nn.Dropout(0.5)), betas=(0.9, 0.99), eps=1e-3)
    callback, recorder = CurvatureCallback(every=4, first_matvecs=53, trace_matvecs=110, rho=0.1), Recorder()
    fitted(module, callback, max_epochs=1, logger=recorder)
    (row,) = callback.rows
    model, (x, y) = copy.deepcopy(module.model).eval(), data(count=24)
    names, shapes = zip(*[(name, p.shape) for name, p in model.named_parameters()], strict=True)

    def loss(w):
        pieces = w.split([shape.numel() for shape in shapes])
        placed = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, placed, (x,)), y)

    w = nn.utils.parameters_to_vector(model.parameters()).detach()
    H, g = hessian(loss, w), torch.autograd.functional.jacobian(loss, w)
    values, vectors = torch.linalg.eigh(H)
    state = [module.optimizers(use_pl_optimizer=False).state[p]["exp_avg_sq"] for p in module.model.parameters()]
    P = (torch.cat([v.flatten() for v in state]) / (1 - 0.99**4)).sqrt() + 1e-3
    assert row.step == 4
    assert row.loss == pytest.approx(float(loss(w)), rel=1e-12)
    assert row.lambda_max == pytest.approx(float(values[-1]), rel=1e-6)  # to a residual of 1e-3
    assert row.alignment == pytest.approx(float(abs(g @ vectors[:, -1]) / g.norm()), rel=1e-4)
    assert row.trace == pytest.approx(float(H.trace()), rel=1e-8)
    assert row.gap == pytest.approx(float(loss(w + 0.1 * g / g.norm()) - loss(w)), rel=1e-9)
    assert row.preconditioned == pytest.approx(float(torch.linalg.eigvals(H / P[:, None]).real.max()), rel=1e-2)
    assert row.threshold == pytest.approx(3800)
    told = [(step, metrics) for step, metrics in recorder.told if "curvature/lambda_max" in metrics]
    assert [(step, metrics["curvature/lambda_max"]) for step, metrics in told] == [(4, row.lambda_max)]


def test_a_resumed_training_keeps_the_series(tmp_path):
    whole = CurvatureCallback(every=3, samples=9, matvecs=3)
    saved = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    fitted(Module(network()), callbacks=[saved, whole], enable_checkpointing=True)
    resumed = CurvatureCallback(every=3, samples=9, matvecs=3)
    trainer = lightning.Trainer(**QUIET, max_epochs=2, callbacks=[resumed])
    trainer.fit(Module(network()), loader(), ckpt_path=tmp_path / "epoch=0.ckpt", weights_only=True)
    assert [row.step for row in resumed.rows] == [3, 6]
    assert [numbers(row) for row in resumed.rows] == [numbers(row) for row in whole.rows]


class Manual(Module):
    """SAM, by hand."""

    automatic_optimization = False

    def configure_optimizers(self):
        return ls.SharpnessAware(torch.optim.SGD(self.parameters(), lr=0.1), ls.rules.sam(0.05), model=self.model)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(self.model(batch[0]), batch[1])
            self.manual_backward(loss)
            return loss.detach()

        optimizer.step(closure)


class Unnamed(Module):
    def training_step(self, batch, _):
        return F.cross_entropy(self.model(batch[0]), batch[1])


class Alone(Module):
    def training_step(self, batch):
        return F.cross_entropy(self.model(batch[0]), batch[1])


class Packed(Module):
    def training_step(self, *places):
        batch, _ = places
        return F.cross_entropy(self.model(batch[0]), batch[1])


def test_the_index_of_the_batch_may_have_any_name():
    rows = []
    for kind in (Unnamed, Alone, Packed):
        torch.manual_seed(0)
        callback = CurvatureCallback(every=8)
        fitted(kind(network()), callback)
        rows.append([numbers(row) for row in callback.rows])
    assert rows[0] == rows[1] == rows[2] != []


def test_under_manual_optimisation_the_problem_must_be_given():
    with pytest.raises(ValueError, match=r"manual optimisation it makes the step itself; pass problem="):
        fitted(Manual(network()), CurvatureCallback())
    callback = CurvatureCallback(lambda module: ls.Problem(module.model, F.cross_entropy, data(count=24)), every=8)
    module = Manual(network())
    fitted(module, callback)
    problem = ls.Problem(module.model, F.cross_entropy, data(count=24))
    (row,) = callback.rows
    assert (row.step, row.loss, row.threshold) == (8, float(problem.loss()), pytest.approx(20))
    assert row.preconditioned == row.lambda_max


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TensorDataset(*data(count=6)))


def test_a_stream_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"got DataLoader over Stream; pass problem="):
        fitted(Module(network()), CurvatureCallback(), DataLoader(Stream(), batch_size=2))


def test_a_loss_that_is_not_finite_is_told_and_the_training_goes_on():
    module, callback = Module(network()), CurvatureCallback(every=4)
    module.scale = float("nan")
    with pytest.warns(UserWarning, match="curvature after step 4 was not measured: .*NaN|nan"):
        trainer = fitted(module, callback)
    assert (trainer.global_step, callback.rows) == (8, [])


def test_an_optimiser_that_is_not_known_leaves_its_columns_out():
    callback = CurvatureCallback(every=8)
    with pytest.warns(UserWarning, match=r"without λmax\(P⁻¹H\).*optimizer must be SGD, Adam.*got Adadelta"):
        fitted(Module(network(), torch.optim.Adadelta), callback)
    assert [row.threshold for row in callback.rows] == [None]


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="every must be an integer at least 1, got 0"):
        CurvatureCallback(every=0)
    with pytest.raises(ValueError, match="samples must be an integer at least 1, got 0"):
        CurvatureCallback(samples=0)
