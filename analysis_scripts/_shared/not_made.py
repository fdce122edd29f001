"""Claims of the papers that no script here has looked at, and why: rows of the reproductions page."""

from analysis_scripts._shared.claims import Claim

FILES = "the data are no part of any package here"
LARGE = f"{FILES}, and the networks are too large for two cores"
TUNED = "no pre-trained weights are part of any package here"


def _row(paper: str, claim: str, why: str) -> Claim:
    return Claim(paper, claim, f"not made: {why}", "cannot say")


NOT_MADE = (
    _row("Foret et al. 2021, table 1, on CIFAR", "SAM errs less on CIFAR-10 and CIFAR-100", LARGE),
    _row("Foret et al. 2021, table 2", "SAM errs less on ImageNet, the more the longer the training", LARGE),
    _row("Foret et al. 2021, table 3", "SAM errs less in fine-tuning", TUNED),
    _row("Foret et al. 2021, table 5", "SAM errs less on SVHN and Fashion-MNIST", f"{FILES}; both have readers"),
    _row("Foret et al. 2021, table 11", "ρ = 0.05 errs less in fine-tuning", TUNED),
    _row("Kim et al. 2022, table 1, on CIFAR", "Fisher SAM errs less than SGD, SAM and ASAM", LARGE),
    _row("Kim et al. 2022, tables 2 and 3", "Fisher SAM errs less after extra training and in transfer", TUNED),
    _row(
        "Kim et al. 2022, section 5.7",
        "Fisher SAM's step takes SAM's time (0.233 and 0.232 s)",
        "a ratio without an interval: 1.02, figures/benchmarks/steps.json",
    ),
    _row("Zhuang et al. 2022, table 1, on ImageNet", "GSAM errs less for ResNets, ViTs and Mixers", LARGE),
    _row("Zhuang et al. 2022, table 3", "GSAM errs less in transfer", TUNED),
    _row("Zhuang et al. 2022, figure 5", "the ascent step helps SGD, SAM and ASAM", "only SAM's is in rule_table"),
    _row(
        "Zhuang et al. 2022, figure 6",
        "GSAM helps with every augmentation and base optimiser",
        "gains_across_settings has them for SAM",
    ),
    _row("Luo et al. 2024, tables on CIFAR and fine-tuning", "Eigen-SAM errs less than SAM", f"{LARGE}; {TUNED}"),
    _row("Yao et al. 2021, tables 2 to 5 in their size", "AdaHessian errs less than AdamW", LARGE),
    _row("Yao et al. 2021, figure 6", "AdaHessian errs less on Criteo's advertisements", LARGE),
    _row("Yao et al. 2021, figures 7 to 10", "AdaHessian's training curves", "of the networks of tables 2 to 5"),
    _row("Chen et al. 2022, tables 2 and 6", "SAM's ViTs err less on ImageNet and in transfer", f"{LARGE}; {TUNED}"),
    _row("Chen et al. 2022, section 5.3", "SAM helps supervised contrastive learning", LARGE),
    _row("SAM's variants with sparse perturbations, appendix B.5", "they help in translation", LARGE),
    _row(
        "Adam reduces a unique form of sharpness, abstract, the SDE",
        "a stochastic differential equation describes Adam near the minimisers",
        "the abstract has no equation; tr diag(H)^½ along Adam's training is in adam_sparse_regression",
    ),
    _row("Zhang et al. 2017, table 2", "random labels of ImageNet are fitted", LARGE),
    _row(
        "Zhang et al. 2019, Lookahead",
        "it tests above SGD along the training",
        "an option here, not compared",
    ),
)
