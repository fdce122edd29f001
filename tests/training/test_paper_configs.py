"""The files in analysis_scripts/configs that have a paper's settings: its numbers, and a start on data of its format.

Numbers are the papers' and their authors' codes', as each file's head cites them.
"""

from pathlib import Path

import pytest
from data_files import write_cifar, write_image_folder

from landscape.models import build
from landscape.training import TrainConfig, load_checkpoint, read_log, train

FOLDER = Path(__file__).parents[2] / "analysis_scripts" / "configs"
IMAGES = 1_281_167  # of ImageNet's training set

SGD = {"base": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "base_settings": {}}
NESTEROV = {"base_settings": {"nesterov": True}}  # google-research/sam, sam_jax/training_utils/flax_training.py
SMALL_IMAGES = {"crop": 4, "flip": True, "mixup": 0.0, "cutmix": 0.0}
# Zhuang et al. 2022, table 4; batch and clipping: google-research/big_vision, configs/proj/gsam/vit_i1k_gsam_no_aug.py
TRANSFORMER = {"base": "adamw", "lr": 0.003, "weight_decay": 0.3, "schedule": "linear", "clip_norm": 1.0}
TRANSFORMER |= {"batch_size": 4096, "epochs": 300, "flip": True, "label_smoothing": 0.0, "rand_augment": 0}
# Du et al. 2022, AngusDujw/SAF, run.sh: 4 x 256 images; warm-up and jitter: SAF_train.py and MESA_train.py
RESNET_50 = {"dataset": "folder", "model": "resnet50", "optimizer": "plain", "base": "sgd", "lr": 0.4}
RESNET_50 |= {"momentum": 0.9, "weight_decay": 1e-4, "batch_size": 1024, "epochs": 90, "label_smoothing": 0.1}
RESNET_50 |= {"schedule": "cosine", "warmup_epochs": 3.0, "jitter": 0.4, "flip": True}
VIT_B = {"dim": 768, "depth": 12, "heads": 12}  # Dosovitskiy et al. 2021, table 1
MIXER_B = {"dim": 768, "depth": 12}  # Tolstikhin et al. 2021, table 1

PAPERS = {
    # Foret et al. 2021, section 3.1, appendix C.1; lr, decay, epochs, clipping: google-research/sam, README at 1c8af51
    "wrn_28_10_cifar10_sam": SGD
    | NESTEROV
    | SMALL_IMAGES
    | {"dataset": "cifar10", "model": "wrn", "optimizer": "sam", "rule_settings": {"rho": 0.05}, "lr": 0.1}
    | {"batch_size": 256, "epochs": 200, "clip_norm": 5.0, "cutout": 0, "label_smoothing": 0.0},
    # Foret et al. 2021, tables 1 and 10, appendix C.1, the same README; Kim et al. 2022, section 5.1 (epochs)
    "pyramidnet_272_cifar10_sam": SGD
    | NESTEROV
    | SMALL_IMAGES
    | {"dataset": "cifar10", "model": "pyramidnet", "optimizer": "sam", "rule_settings": {"rho": 0.05}, "lr": 0.1}
    | {"batch_size": 256, "epochs": 900, "clip_norm": 5.0, "cutout": 0, "label_smoothing": 0.0},
    # Kwon et al. 2021: SamsungLabs/ASAM, asam.py (eta) and example_cifar.py
    "wrn_28_10_cifar10_asam": SGD
    | SMALL_IMAGES
    | {"dataset": "cifar10", "model": "wrn", "optimizer": "asam", "rule_settings": {"rho": 0.5, "eta": 0.01}}
    | {"lr": 0.1, "batch_size": 128, "epochs": 200, "label_smoothing": 0.1, "cutout": 0, "auto_augment": False},
    # Kim et al. 2022, section 5.1; rho, eta and smoothing are not confirmed
    "wrn_28_10_cifar10_fisher_sam": SGD
    | SMALL_IMAGES
    | {"dataset": "cifar10", "model": "wrn", "optimizer": "fisher_sam", "rule_settings": {"rho": 0.1, "eta": 1.0}}
    | {"lr": 0.1, "batch_size": 128, "epochs": 200, "label_smoothing": 0.1, "cutout": 16, "auto_augment": True}
    | {"m_sharpness": 0, "schedule": "cosine"},
    # Luo et al. 2024: RitianLuo/EigenSAM, README and log; 5 products: utils.py
    "resnet18_cifar100_eigen_sam": SGD
    | SMALL_IMAGES
    | {"dataset": "cifar100", "model": "resnet18", "optimizer": "eigen_sam", "eigen_products": 5}
    | {"rule_settings": {"rho": 0.1, "alpha": 0.2, "period": 100}, "lr": 0.1, "batch_size": 256, "epochs": 200},
    # Yao et al. 2021: amirgholami/adahessian, image_classification/main.py and optim_adahessian.py
    "resnet20_cifar10_adahessian": SMALL_IMAGES
    | {"dataset": "cifar10", "model": "resnet", "optimizer": "adahessian", "lr": 0.15, "weight_decay": 5e-4 / 0.15}
    | {"rule_settings": {"betas": [0.9, 0.999], "eps": 1e-4, "hessian_power": 1.0, "period": 1}, "batch_size": 256}
    | {"epochs": 160, "schedule": "step", "milestones": [80, 120], "decay": 0.1},
    "vit_b32_imagenet_gsam": TRANSFORMER
    | {"dataset": "folder", "model": "vit", "optimizer": "gsam"}
    | {"rule_settings": {"rho": 0.6, "rho_min": 0.1, "alpha": 0.6, "lr_max": 0.003, "lr_min": 3e-5}},
    # Chen et al. 2022: network and basic augmentation; rho is not confirmed
    "vit_b16_imagenet_sam": TRANSFORMER
    | {"dataset": "folder", "model": "vit", "optimizer": "sam", "rule_settings": {"rho": 0.2}, "mixup": 0.0},
    "mixer_b16_imagenet_sam": TRANSFORMER
    | {"dataset": "folder", "model": "mixer", "optimizer": "sam", "rule_settings": {"rho": 0.6}, "mixup": 0.0},
    "resnet50_imagenet_saf": RESNET_50
    | {"objective": "saf", "objective_settings": {"lmbda": 0.3, "tau": 5.0, "start": 5, "lag": 2}},
    "resnet50_imagenet_mesa": RESNET_50
    | {"objective": "mesa", "objective_settings": {"lmbda": 0.8, "tau": 5.0, "start": 5, "decay": 0.9998}},
}
NETWORKS = {  # their settings, and the number of parameters in millions (He 2016, Yao 2021 and the papers of the nets)
    "wrn_28_10_cifar10_sam": ({"depth": 28, "widen": 10, "in_channels": 3}, 36.5),
    "wrn_28_10_cifar10_asam": ({"depth": 28, "widen": 10, "in_channels": 3}, 36.5),
    "wrn_28_10_cifar10_fisher_sam": ({"depth": 28, "widen": 10, "in_channels": 3}, 36.5),
    "pyramidnet_272_cifar10_sam": ({"depth": 272, "alpha": 200, "shake_drop": 0.5, "in_channels": 3}, 26.0),
    "resnet18_cifar100_eigen_sam": ({"form": "cifar", "classes": 100}, 11.2),
    "resnet20_cifar10_adahessian": ({"depth": 20, "width": 16, "norm": "batch", "in_channels": 3}, 0.27),
    "vit_b32_imagenet_gsam": (VIT_B | {"patch": 32, "image_size": 224, "in_channels": 3, "classes": 1000}, 88),
    "vit_b16_imagenet_sam": (VIT_B | {"patch": 16, "image_size": 224, "in_channels": 3, "classes": 1000}, 87),
    "mixer_b16_imagenet_sam": (MIXER_B | {"patch": 16, "image_size": 224, "in_channels": 3, "classes": 1000}, 59),
    "resnet50_imagenet_saf": ({}, 25.6),
    "resnet50_imagenet_mesa": ({}, 25.6),
}
SMALLER = {  # of each network
    "wrn": {"depth": 10, "widen": 1},
    "pyramidnet": {"depth": 11, "alpha": 9},
    "resnet18": {"width": 4},
    "resnet": {"depth": 8, "width": 4},
    "vit": {"dim": 8, "depth": 1, "heads": 2, "image_size": 32, "patch": 16, "classes": 4},
    "mixer": {"dim": 8, "depth": 1, "image_size": 32, "patch": 16, "classes": 4},
    "resnet50": {"width": 8, "classes": 4},
}


def test_every_paper_of_the_table_has_its_file() -> None:
    assert set(PAPERS) == set(NETWORKS)
    assert {path.stem for path in FOLDER.glob("*_cifar*.yaml")} | {
        path.stem for path in FOLDER.glob("*_imagenet_*")
    } == set(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
def test_its_settings_are_the_papers(name: str, tmp_path: Path) -> None:
    run = TrainConfig.from_yaml(FOLDER / f"{name}.yaml", folder=tmp_path)
    found = {key: getattr(run, key) for key in PAPERS[name]}
    assert found == PAPERS[name]
    assert run.model_settings == NETWORKS[name][0]
    assert "arXiv:" in (FOLDER / f"{name}.yaml").read_text()
    if run.base == "adamw":  # 10,000 steps
        assert round(run.warmup_epochs * -(-IMAGES // run.batch_size)) == 10_000
    if run.base == "sgd" and run.optimizer != "adahessian":
        assert run.schedule == "cosine" or (not run.schedule and run.cosine)


@pytest.mark.parametrize("name", NETWORKS)
def test_its_network_has_the_published_size(name: str) -> None:
    run = TrainConfig.from_yaml(FOLDER / f"{name}.yaml", folder="")
    millions = sum(p.numel() for p in build(run.model, run.model_settings, 0).parameters()) / 1e6
    assert millions == pytest.approx(NETWORKS[name][1], rel=0.02)


@pytest.mark.parametrize("name", PAPERS)
def test_it_starts_on_a_stand_in_of_its_data(name: str, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.yaml"
    run = TrainConfig.from_yaml(file, folder=tmp_path)
    changes = {"data_path": str(tmp_path / "data"), "epochs": 1, "warmup_epochs": min(run.warmup_epochs, 0.5)}
    if run.dataset == "folder":
        write_image_folder(tmp_path / "data", side=40)
        changes |= {"data_settings": {"image_size": 32}}
    else:
        write_cifar(tmp_path / "data", classes=int(run.dataset.removeprefix("cifar")))
    if run.objective == "saf":  # past outputs and the average come in at once
        changes |= {"epochs": 2, "objective_settings": run.objective_settings | {"start": 1, "lag": 1}}
    if run.objective == "mesa":
        changes |= {"objective_settings": run.objective_settings | {"start": 0}}
    changes |= {"model_settings": run.model_settings | SMALLER[run.model]}
    small = TrainConfig.from_yaml(file, folder=tmp_path / "run", progress=False, **changes)
    train(small)
    log = read_log(tmp_path / "run")
    assert len(log) == small.epochs
    assert log[-1]["train_loss"] > 0
    assert load_checkpoint(tmp_path / "run")[1]["config"] == small.settings()
