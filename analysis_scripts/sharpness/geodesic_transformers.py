"""Does sharpness that knows attention's symmetries follow the gap better? Two dozen small vision transformers.

Networks with random settings (learning rate, weight decay, batch size, AdamW alone or SAM around it) are trained on
digits to the same training loss. Adaptive sharpness sees the query-key and value-output pairs as single weights,
geodesic sharpness in the metrics "inv" and "mix" their products; all other weights are adaptive in all three. Kendall's
τ of each with the gap, in error and in loss, beside what exchanged gaps give.
Source: da Silva et al. 2025, arXiv:2505.05409: CLIP fine-tuned on ImageNet, BERT on MNLI. Their ρ is not known here;
ours was fixed before any τ was seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.described import sized
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import measured, none_failed
from analysis_scripts._shared.over_seeds import verdict
from landscape.plots.style import GREY, RED, SMALL, legend_above, look
from landscape.storage.results import read_json
from landscape.study.network_record import load_run
from landscape.study.statistics.comparison import difference

PUBLISHED = {"adaptive": (-0.41, 0.06), "inv": (-0.71, 0.28), "mix": (-0.70, 0.38)}  # CLIP, MNLI
GAPS = {"error": "gap in error", "loss": "gap in loss"}
PAPER = "da Silva et al. 2025, section 5.2"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Config:
    """What is trained and measured."""

    networks: int = 24
    model_settings: Mapping[str, int] = field(default_factory=lambda: {"dim": 16, "depth": 2, "heads": 2})
    lr: tuple[float, float] = (1e-3, 6e-3)  # even in the logarithm, as the next
    weight_decay: tuple[float, float] = (1e-3, 0.3)
    radius: tuple[float, float] = (0.02, 0.2)  # of SAM
    batch_size: Sequence[int] = (32, 64, 128)
    loss: float = 0.05  # on the training images, where training ends
    epochs: int = 100  # at most
    radii: tuple[float, ...] = (0.1,)
    ascent: int = 400  # steps at most
    samples: int = 300  # of the training images, on which sharpness is measured
    workers: int = 2
    runs: str = "runs/geodesic_transformers"
    folder: str = "figures/geodesic_transformers"


def networks(config: Config) -> dict[int, ls.TrainConfig]:
    """The trainings, every second one with SAM."""
    source = np.random.default_rng(0)

    def between(ends: tuple[float, float]) -> float:
        return float(np.exp(source.uniform(*np.log(ends))))

    found = {}
    for seed in range(config.networks):
        rho = between(config.radius)
        found[seed] = ls.TrainConfig(
            f"{config.runs}/{seed}",
            model="vit",
            model_settings=dict(config.model_settings),
            optimizer="sam" if seed % 2 else "plain",
            rule_settings={"rho": rho} if seed % 2 else {},
            base="adamw",
            lr=between(config.lr),
            weight_decay=between(config.weight_decay),
            batch_size=int(source.choice(config.batch_size)),
            schedule="constant",
            epochs=config.epochs,
            stop_at_loss=config.loss,
            seed=seed,
            progress=False,
        )
    return found


def main(config: Config) -> dict[str, Any]:
    """Train, measure, correlate."""
    settings = {key: getattr(config, key) for key in ("radii", "ascent", "samples")}
    kept = none_failed(measured(networks(config), partial(sharpness, **settings), config.workers))
    rows = [{"network": seed, **own} for seed, own in kept.items()]
    fitted = [row for row in rows if row["fitted"]]
    found = {gap: ls.correlate(fitted, columns(config), gap) for gap in GAPS}
    taus = {gap: {name: [t.tau, t.low, t.high, t.p] for name, t in own.items()} for gap, own in found.items()}
    content = {"sentence": sentence(config, rows, found), "rows": rows, "tau_low_high_p": taus}
    drawing = partial(draw, config, rows, found)
    return publish(config, "geodesic", content, drawing, claims=claims(config, rows, found))


def columns(config: Config) -> list[str]:
    """The sharpnesses at all radii, and the training loss that is left."""
    return [f"{name}, ρ = {rho:g}" for rho in config.radii for name in PUBLISHED] + ["train_loss"]


def sharpness(run: Path, *, radii: Sequence[float], ascent: int, samples: int) -> dict[str, Any]:
    """Gaps of one network and its sharpnesses, NaN where a radius is beyond the series of the geodesic."""
    network, problem = read_json(run / "model.json"), load_run(run, samples)
    found: dict[str, Any] = {
        "train_loss": network["train_loss"],
        "error": network["train_accuracy"] - network["test_accuracy"],
        "loss": network["test_loss"] - network["train_loss"],
        "fitted": network["train_loss"] <= network["config"]["stop_at_loss"],
        "rule": network["config"]["optimizer"],
    }
    origin = problem.loss_and_gradient()
    for rho in radii:
        for name in PUBLISHED:
            label = f"{name}, ρ = {rho:g}"
            try:
                own = (
                    ls.metrics.worst_case_gap(problem, rho=rho, geometry="adaptive", steps=ascent, origin=origin)
                    if name == "adaptive"
                    else ls.metrics.geodesic(problem, rho=rho, metric=name, steps=ascent, origin=origin)
                )
            except ValueError as error:
                if "second order of the geodesic" not in str(error):
                    raise
                found |= {label: float("nan"), f"{label}, converged": 0.0}
            else:
                found |= {label: float(own.value), f"{label}, converged": own.details["converged"]}
                found[f"{label}, bend"] = own.details.get("bend", 0.0)
    return found


Found = Mapping[str, Mapping[str, ls.Correlation]]  # gap to column to τ


def sentence(config: Config, rows: Rows, found: Found) -> str:
    """What was compared, and what did not work."""
    labels = [name for name in columns(config) if name != "train_loss"]
    refused = sum(bool(np.isnan(row[label])) for row in rows for label in labels)
    open_ = sum(not row[f"{label}, converged"] and not np.isnan(row[label]) for row in rows for label in labels)
    bend = max(row.get(f"{label}, bend", 0.0) for row in rows for label in labels)
    fitted = sum(row["fitted"] for row in rows)
    held = {gap: own["train_loss"] for gap, own in found.items()}
    told = "; ".join(f"{GAPS[gap]} {points((t.tau, t.low, t.high), '', 2)}" for gap, t in held.items())
    return (
        f"{sized('vit', config.model_settings)}, digits: {fitted} of {len(rows)} (a seed each) reached a training loss "
        f"of {config.loss:g} and are compared. Of {len(rows) * len(labels)} ascents {open_} did not converge, "
        f"{refused} were refused as too far for the geodesic's series; |Γ|/|ξ| at most {bend:.2g}. τ of the "
        f"training loss: {told}."
    )


def claims(config: Config, rows: Rows, found: Found) -> list[Claim]:
    """The sign of each τ, and which is the closer, for both gaps at the first radius."""
    rho, claimed = config.radii[0], []
    for name, (clip, mnli) in PUBLISHED.items():
        own = {gap: found[gap][f"{name}, ρ = {rho:g}"] for gap in GAPS}
        told = "; ".join(
            f"{GAPS[gap]} {points((t.tau, t.low, t.high), '', 2)}, p {t.p:.2g} by exchanged gaps"
            for gap, t in own.items()
        )
        t = own["error"]
        judged = verdict((t.tau, t.low, t.high), -1)
        claim = f"τ of {name} with the gap is negative on images: {clip:+.2f} (CLIP; on text, MNLI, {mnli:+.2f})"
        claimed.append(Claim(PAPER, claim, f"small ViTs, ρ = {rho:g}: {told}", judged))
    for name in ("inv", "mix"):
        claimed.append(_closer(config, rows, name))
    return claimed


def _closer(config: Config, rows: Rows, name: str) -> Claim:
    """Whether |τ| of a geodesic sharpness is above that of the adaptive one, on the same networks."""
    rho, table = config.radii[0], [row for row in rows if row["fitted"]]
    told, judged = [], {}
    for gap in GAPS:
        low, high = difference(table, f"{name}, ρ = {rho:g}", f"adaptive, ρ = {rho:g}", gap)
        told.append(f"{GAPS[gap]} {points(((low + high) / 2, low, high), '', 2)}")
        judged[gap] = verdict((nan, low, high))
    claim = f"|τ| of {name} is above that of adaptive (CLIP by {abs(PUBLISHED[name][0]) - 0.41:.2f}, MNLI too)"
    return Claim(PAPER, claim, f"small ViTs, ρ = {rho:g}, |τ| less |τ|: {'; '.join(told)}", judged["error"])


def draw(config: Config, rows: Rows, found: Found) -> Figure:
    """Each sharpness against the gap in error at the first radius, and τ with both gaps and the published ones."""
    figure = Figure(figsize=(6.8, 6.0), layout="constrained")
    axes = figure.subplot_mosaic([[*PUBLISHED], ["τ"] * 3], height_ratios=[1.0, 1.6])
    fitted = [row for row in rows if row["fitted"]]
    for name in PUBLISHED:
        ax, label = axes[name], f"{name}, ρ = {config.radii[0]:g}"
        if ax is not axes["adaptive"]:
            ax.sharey(axes["adaptive"])  # the networks that "mix" lacks have a place there
            ax.tick_params(labelleft=False)
        for rule, (color, marker) in look(["sgd", "sam"]).items():
            for ended, face in ((True, "none"), (False, color)):
                own = [
                    row
                    for row in fitted
                    if (row["rule"] == "sam") == (rule == "sam") and bool(row[f"{label}, converged"]) == ended
                ]
                text = {"sgd": "AdamW", "sam": "SAM around it"}[rule] if ended else None
                x, y = [row[label] for row in own], [100 * row["error"] for row in own]
                ax.plot(x, y, marker, color=color, mfc=face, ms=4, label=text)
        ax.set(xscale="log", xlabel=f"sharpness, {name},\nρ = {config.radii[0]:g}, nats")
    axes["adaptive"].set_ylabel("gap in error, points")
    handles, labels = axes["adaptive"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=SMALL)
    ax = axes["τ"]
    for side, (gap, marker) in enumerate(zip(GAPS, "os", strict=True)):
        for place, name in enumerate(columns(config)):
            tau, height = found[gap][name], place + 0.24 * (side - 0.5)
            ax.hlines(height, tau.low, tau.high, color="black", linewidth=1.0, linestyle="-" if side == 0 else "--")
            text = f"{GAPS[gap]}, 95 % interval" if place == 0 else None
            ax.plot(tau.tau, height, marker, color="black", mfc="white", ms=4, label=text)
    for place, name in enumerate(columns(config)):
        for published, marker, text in zip(
            PUBLISHED.get(name.partition(",")[0], ()), "x+", ("CLIP", "MNLI"), strict=False
        ):
            ax.plot(published, place, marker, color=RED, ms=6, label=f"published, {text}" if place == 0 else None)
    ax.axvline(0.0, color=GREY, linewidth=0.8, linestyle=":", label="by chance")
    ax.set_yticks(
        range(len(columns(config))), [name.replace("train_loss", "training loss") for name in columns(config)]
    )
    ax.set(
        xlim=(-1.03, 1.03), ylim=(len(columns(config)) - 0.4, -0.6), xlabel="Kendall's τ with the gap, over networks"
    )
    legend_above(ax, columns=3)
    return figure


if __name__ == "__main__":
    command(main, Config)
