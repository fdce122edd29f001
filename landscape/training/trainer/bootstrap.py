"""Bootstrapping against label noise: a network trains on the labels that one trained before it predicts.

Source: Foret et al. 2021, arXiv:2010.01412, section 3.3: trained as usual, then anew from scratch on its predictions.
"""

from dataclasses import replace
from pathlib import Path

import torch

from landscape.data import Images
from landscape.training.trainer.checkpoint import load_checkpoint
from landscape.training.trainer.evaluation import predicted

TEACHER = "teacher"  # the earlier network's folder, below that of the run


def relabel(data: Images, teacher: str | Path) -> Images:
    """The same images; the training labels are the predictions of the network in the folder `teacher`."""
    model, _ = load_checkpoint(teacher)
    labels = torch.cat([outputs.argmax(1) for outputs, _ in predicted(model, data.batches("train", 512))])
    return replace(data, train_targets=labels)
