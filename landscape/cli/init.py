"""`landscape init`: a problem file to fill in, for the kind of network asked for."""

from pathlib import Path
from shlex import quote

import click

from landscape.checks import require

MARK = "# <--"  # ends a line that is to be filled in

HEAD = '''"""{what}, for landscape: fill in the lines that end in "<-- ...", then

    landscape spectrum --problem {file}:make_problem
    landscape analyze --problem {file}:make_problem
    landscape slice --problem {file}:make_problem{other}
"""

'''
OTHER = """

or, for other weights W of this network,

    landscape spectrum --weights W --model {file}:make_model --data {file}:make_data"""
LOSSES = {"image-classifier": "", "huggingface": " --loss causal_lm", "lightning": " --loss {file}:criterion"}

DATA = '''
def make_data():
    """What the loss is a mean over: the training set as it is, without augmentation and shuffling; and the test set."""
    raise ValueError("{file}: fill in make_data")  # <-- train, test = two data sets of {items}
    return {{"train": DataLoader(train, batch_size=256), "test": DataLoader(test, batch_size=256)}}
'''

MODEL = '''
def make_model():
    """The network as it was trained, with any weights: those of the file are put in."""
    raise ValueError("{file}: fill in make_model")  # <-- return MyNetwork()

'''

BODIES = {
    "image-classifier": (
        "A classifier of images",
        """import torch
from torch.utils.data import DataLoader

import landscape as ls
from landscape.storage.weights import load_weights

WEIGHTS = "weights.pt"  # <-- or .pth, .safetensors

"""
        + MODEL
        + DATA.replace("{items}", "(image, class)")
        + '''

def make_problem():
    """The training loss as a function of the weights, and the data of each split."""
    data = make_data()
    model = load_weights(make_model(), WEIGHTS)
    return ls.Problem(model, torch.nn.functional.cross_entropy, data["train"]), data
''',
    ),
    "huggingface": (
        "A language model of Hugging Face's",
        '''from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM as Model  # <-- or AutoModelForSequenceClassification, as below

from landscape.interop.huggingface import causal_lm_problem as problem_of  # <-- or sequence_classification_problem

FOLDER = "checkpoint"  # <-- what save_pretrained wrote, or the name of a model


def make_model():
    """The network with its weights."""
    return Model.from_pretrained(FOLDER)


def make_data():
    """Batches of mappings: input_ids, attention_mask, labels (-100 where a token does not count)."""
    raise ValueError("{file}: fill in make_data")  # <-- samples, collate = a tokenised data set, your data collator
    return DataLoader(samples, batch_size=8, collate_fn=collate)


def make_problem():
    """The model's own loss as a function of the weights: a mean over the tokens that count."""
    return problem_of(make_model(), make_data())
''',
    ),
    "lightning": (
        "A module of Lightning's",
        """import torch
from torch.utils.data import DataLoader

import landscape as ls
from landscape.storage.weights import load_weights

WEIGHTS = "lightning_logs/version_0/checkpoints/last.ckpt"  # <-- its "state_dict" is taken

"""
        + MODEL.replace("return MyNetwork()", "return MyModule(), or the network inside it")
        + DATA.replace("{items}", "(input, target)")
        + '''

def criterion(outputs, targets):
    """The loss of training_step, a mean over the batch; outputs are those of forward."""
    return torch.nn.functional.cross_entropy(outputs, targets)  # <-- yours


def make_problem():
    """The training loss as a function of the weights, and the data of each split."""
    data = make_data()
    return ls.Problem(load_weights(make_model(), WEIGHTS), criterion, data["train"]), data
''',
    ),
    "pinn": (
        "A physics-informed network",
        """import torch

import landscape as ls
from landscape.storage.weights import load_weights

WEIGHTS = "weights.pt"  # <-- or .pth, .safetensors
BOUNDARY = 1.0  # <-- the weight of the boundary's term in the loss

"""
        + MODEL
        + '''
def residual(model, x):
    """What is zero where the equation holds, (n, ...), at the points x (n, d): here u'' + u = 0."""
    x = x.detach().requires_grad_()
    u = model(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), x, create_graph=True)
    return ddu + u  # <-- your equation


def make_data():
    """One batch: points inside (n, d), points of the boundary (m, d), the values there (m, ...)."""
    raise ValueError("{file}: fill in make_data")  # <-- inside, boundary, values = three tensors
    return [((inside, boundary, values), inside)]


def forward(model, inputs):
    """All that should be zero as one vector, whose squares add up to the loss: so there is a Gauss-Newton matrix."""
    inside, boundary, values = inputs
    r, b = residual(model, inside).flatten(), (model(boundary) - values).flatten()
    return torch.cat([r / len(r) ** 0.5, b * (BOUNDARY / len(b)) ** 0.5])


def make_problem():
    """Mean squared residual + BOUNDARY * mean squared error on the boundary, as a function of the weights."""
    model = load_weights(make_model(), WEIGHTS)
    return ls.Problem(model, lambda outputs, _: outputs.square().sum(), make_data(), forward=forward)
''',
    ),
    "own": (
        "A network, its data and its loss",
        """import torch
from torch.utils.data import DataLoader

import landscape as ls
from landscape.storage.weights import load_weights

WEIGHTS = "weights.pt"  # <-- or .pth, .ckpt, .safetensors

"""
        + MODEL
        + DATA.replace("{items}", "whatever `split` takes apart")
        + '''

def split(batch):
    """A batch as (inputs, targets)."""
    return batch[0], batch[1]  # <-- of a mapping: {{"image": batch["image"]}}, batch["mask"]


def forward(model, inputs):
    """How the model is called; what it gives goes to the criterion."""
    return model(inputs)  # <-- or model(**inputs), model(*inputs), model(inputs)["out"]


def criterion(outputs, targets):
    """The loss of a batch: a mean over what `weight` counts."""
    return torch.nn.functional.cross_entropy(outputs, targets)  # <-- yours


def weight(inputs, targets):
    """What a batch counts for: samples, or the pixels or tokens that the criterion's mean is over."""
    return len(targets)  # <-- such as (targets != 255).sum()


def make_problem():
    """The training loss as a function of the weights, and the data of each split."""
    data = make_data()
    model = load_weights(make_model(), WEIGHTS)
    return ls.Problem(model, criterion, data["train"], split=split, forward=forward, weight=weight), data
''',
    ),
}


@click.command("init")
@click.argument("kind", type=click.Choice(list(BODIES)), default="image-classifier")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("problem.py"), show_default=True)
def init_command(kind: str, out: Path) -> None:
    """Write a problem file for a KIND of network: default image-classifier; own for everything else.

    It has the functions that --problem, --model and --data ask for. Some of its lines are marked, to be filled in.
    """
    require(out.suffix == ".py", f"--out must end in .py, got {out}")
    require(not out.exists(), f"{out} is there already; choose another --out")
    require(out.parent.is_dir(), f"--out must lie in a folder that exists, got {out}")
    what, body = BODIES[kind]
    other = (OTHER + LOSSES[kind]).format(file=out) if kind in LOSSES else ""
    out.write_text((HEAD + body).format(what=what, file=out, other=other))
    click.echo(f"{out}: fill in the lines marked <--, then landscape spectrum --problem {quote(str(out))}:make_problem")
