"""The scripts vit_*: what they measure against closed forms, claims and figures from rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import landscape as ls
from analysis_scripts._shared.random_search import Tuned
from analysis_scripts.training import vit_adversarial, vit_augmentation, vit_networks, vit_sharpness
from landscape.curvature import hessian
from landscape.data import digits
from landscape.models import build

POINT = {"lr": 0.01, "weight_decay": 0.01, "radius": 0.1}
BEST = {(model, rule): Tuned(POINT, 0.1, 3, ()) for model in vit_networks.TITLES for rule in vit_networks.RULES}


def rows(**changes):
    """Of two seeds: SAM doubles what is a size and adds .01 to accuracies, in the ResNet .005; ViT above ResNet."""
    found = []
    for place, (model, rule, seed) in enumerate(vit_networks.keys(vit_networks.Networks(seeds=(0, 1)))):
        sam, level = rule == "SAM", {"resnet": 1, "vit": 10, "mixer": 100}[model]
        right = 0.8 + 1e-6 * place + sam * (0.005 if model == "resnet" else 0.01)
        size = level * (2.0 if sam else 1.0) * (1 + 1e-6 * place)
        found.append(
            {
                "model": model, "rule": rule, "seed": seed, "kappa_start": level, "kappa": size, "weight_norm": size,
                "lambda_max": level / size, "activation_norm": {"1": size, "2": size}, "attention_on_ink": size,
                "active": {"1": 0.5 - 0.1 * sam * (2 if model == "mixer" else 1), "2": 0.5},
                "train_loss": 0.1, "train_accuracy": 1.0,
                **{f"{key}_accuracy": right for key in ("test", "corruption", "fgsm", "pgd10")}, **changes,
            }
        )  # fmt: skip
    return found


def verdicts(claims):
    return {claim.claim: claim.verdict for claim in claims}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = vit_networks.Networks(
        models={"vit": {"dim": 2, "depth": 2, "heads": 1}}, runs=str(tmp_path_factory.mktemp("runs"))
    )
    return ls.train(vit_networks.training(config, BEST, ("vit", "SAM", 1), epochs=1))


def test_a_networks_numbers_are_those_of_its_dense_matrix_and_of_its_activations(run):
    found, problem = vit_networks.everything(run, size=0.1), ls.load_run(run)
    dense = torch.linalg.eigvalsh(hessian(problem).dense().double())[-1]
    assert found["lambda_max"] == pytest.approx(float(dense), rel=1e-3)
    assert found["weight_norm"] == pytest.approx(float(problem.vector().norm()), rel=1e-5)
    hidden = []
    for block in problem.model.blocks:
        block.perceptron[1][1].register_forward_hook(lambda *given: hidden.append(given[2]))
    x, _ = digits().first(1200)
    with torch.no_grad():
        problem.model(x)
    for number, own in zip("12", hidden, strict=True):
        assert found["active"][number] == pytest.approx(float((own > 0).double().mean()), rel=1e-6)
        norms = own.double().flatten(1).norm(dim=1)
        assert found["activation_norm"][number] == pytest.approx(float(norms.mean()), rel=1e-5)


def test_kappa_is_that_of_the_dense_kernel_with_the_batchs_own_statistics():
    network = build("resnet", {"depth": 8, "width": 1, "norm": "batch"}, 0)
    few = digits().first(2)
    wide = build("resnet", {"depth": 8, "width": 1, "norm": "batch"}, 0).double().train()
    names = [name for name, _ in wide.named_parameters()]
    jacobian = torch.autograd.functional.jacobian(
        lambda *w: torch.func.functional_call(wide, dict(zip(names, w, strict=True)), few[0].double()).flatten(),
        tuple(wide.parameters()),
    )
    matrix = torch.cat([own.flatten(1) for own in jacobian], 1)
    values = torch.linalg.eigvalsh(matrix @ matrix.T)
    assert vit_networks.kappa(network, few) == pytest.approx(float(values[-1] / values[0]), rel=1e-6)


def test_attention_on_ink_is_1_where_it_is_even_and_the_darkest_patchs_share_where_it_is_there():
    images = torch.full((2, 1, 4, 4), -1.0)
    images[:, :, :2, 2:] = 1.0  # one of four patches is inked, so four times the mean
    even = torch.full((2, 2, 2), 0.1)
    assert vit_networks.on_ink(even, images) == pytest.approx(1)
    there = torch.zeros(2, 2, 2)
    there[:, 0, 1] = 0.5  # what falls on the class token itself does not count
    assert vit_networks.on_ink(there, images) == pytest.approx(4)


def test_the_class_tokens_map_is_the_last_blocks_first_row_without_itself():
    network, images = build("vit", {"dim": 4, "depth": 1, "heads": 2}, 0), digits().first(3)[0]
    (weights,) = ls.metrics.attention_weights(network, images).values()
    found = vit_networks.class_attention(network, images)
    assert found.shape == (3, 4, 4)
    assert found[1, 2, 3] == pytest.approx(float(weights[1, :, 0, 1 + 2 * 4 + 3].mean()))


def test_what_is_trained_in_another_way_differs_in_what_is_named_alone(tmp_path):
    config = vit_augmentation.Config(runs=str(tmp_path))
    usual = vit_networks.training(config, BEST, ("vit", "SAM", 3))
    other = vit_networks.training(config, BEST, ("vit", "SAM", 3), "x", **vit_augmentation.part(config, 0.25))
    assert (other.validation_share, other.epochs) == (0.75, 2 * usual.epochs)
    same = {name: own for name, own in other.settings().items() if name not in ("validation_share", "epochs")}
    assert usual.settings() == {**same, "epochs": usual.epochs}
    assert usual.folder != other.folder
    assert (usual.base, usual.rule_settings) == ("adamw", {"rho": 0.1})
    assert vit_networks.training(config, BEST, ("resnet", "plain", 0)).base == "sgd"
    assert vit_augmentation.part(config, 1.0) == {}


def test_the_claims_on_sharpness_follow_from_the_rows():
    found = rows()
    told = verdicts(vit_sharpness.table_claims(found))
    assert told["κ before training: ViT above ResNet"] == "agrees"
    assert told["SAM lowers λmax of the MLP-Mixer"] == "agrees"
    assert told["SAM raises the ViT's accuracy"] == "agrees"
    more = [claim for claim in vit_sharpness.table_claims(found) if claim.claim.startswith("and more than")]
    assert [claim.verdict for claim in more] == ["agrees"] * 4
    assert more[0].found.startswith("+0.5 [+0.5, +0.5] points")
    told = verdicts(vit_sharpness.block_claims(found))
    assert told["ViT: SAM makes weights |w| longer"] == "agrees"
    assert told["and the MLP-Mixer's more than the ViT's"] == "agrees"
    assert told["the MLP-Mixer has more active neurons than the ViT"] == "cannot say"  # as many
    assert verdicts(vit_sharpness.attention_claims(found)).popitem()[1] == "agrees"
    assert "ViT, SAM 0.100, 100.0 %" in vit_sharpness.sentence(found)
    assert len(vit_sharpness.draw_table(found).axes) == 6
    assert len(vit_sharpness.draw_blocks(found).axes) == 4


def test_the_attention_figure_has_a_row_a_rule_on_one_scale():
    network = build("vit", {"dim": 4, "depth": 1, "heads": 2}, 0)
    figure = vit_sharpness.draw_attention({"plain": network, "SAM": network}, 2)
    areas = [[np.ptp(path.vertices[:, 0]) for path in ax.collections[0].get_paths()] for ax in figure.axes]
    assert len(areas) == 4
    assert areas[0] == areas[2]
    assert areas[0] != areas[1]


def test_the_claims_on_augmentation_and_parts_of_the_data_follow_from_the_rows():
    config = vit_augmentation.Config(seeds=(0, 1))
    found = []
    for share in config.shares:
        for augmented in (False, True):
            for row in rows():
                more = 0.05 * augmented * (1 + row["seed"] * 1e-3) + (row["rule"] == "SAM") * (1 - share) * 0.1
                found.append(
                    {**row, "share": share, "augmented": augmented, "test_accuracy": row["test_accuracy"] + more}
                )
    told = verdicts(vit_augmentation.claims(found, config))
    assert told["ViT, 100 %: SAM gives more than augmentation"] == "differs"
    assert told["ViT, 25 %: SAM gives more than augmentation"] == "agrees"
    assert told["MLP-Mixer, 25 %: both are above each alone"] == "agrees"
    assert told["ResNet, 25 %: SAM gains more than on all images (+0.5 [+0.5, +0.5] points)"] == "agrees"
    assert len(vit_augmentation.draw(found, config).axes) == 3


def test_the_claims_on_adversarial_training_follow_from_the_rows():
    usual = rows(pgd10_accuracy=0.1)
    usual = [{**row, "pgd10_accuracy": 0.1 + 1e-6 * place} for place, row in enumerate(usual)]
    found = rows()
    told = verdicts(vit_adversarial.claims(found, usual))
    assert told["ResNet: adversarial training raises accuracy under PGD-10"] == "agrees"
    assert told["SAM raises PGD-10 accuracy of the adversarially trained ViT"] == "agrees"
    assert told["SAM costs the ResNet clean accuracy"] == "differs"
    assert "4/255" in vit_adversarial.sentence(found, replace(vit_adversarial.Config(), size=4 / 255))
    assert len(vit_adversarial.draw(found, usual).axes) == 4


def test_adversarial_training_moves_pixels_by_the_size_that_attacks_have(tmp_path):
    config = vit_adversarial.Config(runs=str(tmp_path))
    own = vit_networks.training(config, BEST, ("vit", "plain", 0), **vit_adversarial.objective(config))
    black, white = digits().pixel_span
    assert own.objective_settings["size"] / float(white - black) == pytest.approx(16 / 255)
