"""Which measures see that a network was merely written down differently? W1 c and W2 / c around a ReLU, b1 c with W1.

The function, and with it the generalisation gap, is the same for every c > 0; a measure that moves with c can be given
any value. Rows: the cases whose answer is known beforehand, and every entry of METRICS at its own settings. A value
counts as moved if it changes by more than 10 %, as invariant if it agrees to 1e-6, in float64. The factors are powers
of two, so that all weights are rounded alike: others turn a long ascent onto other ways, whose ends agree to the 1e-3
at which it stops.

Writes invariance.json (values, settings, versions), invariance.md (the table) and the figure.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.frame import command, publish
from landscape.metrics import METRICS
from landscape.plots.style import BLUE, GREY, RED, SMALL, legend_above
from landscape.storage.manifest import read_or_none
from landscape.storage.settings import differing

Measure = Callable[[ls.Problem], ls.Estimate]
RENYI = "Rényi sharpness, abstract"
MOVED, EQUAL = 0.1, 1e-6  # relative changes
FLOOR = 1e-16  # where no change at all is drawn


@dataclass(frozen=True)
class Config:
    """The network, its data and the factors."""

    inputs: int = 5
    hidden: int = 8
    classes: int = 3
    samples: int = 200
    steps: int = 200  # of gradient descent
    lr: float = 0.5
    factors: tuple[float, ...] = (0.25, 4.0)
    metrics: tuple[str, ...] | None = None  # of METRICS; None for all
    folder: str = "figures/invariance"


def network(config: Config, c: float, biases: bool = False) -> ls.Problem:
    """The trained network with W1 c, where it has biases b1 c, and W2 / c."""
    model, x, y = copy.deepcopy(trained(config, biases))
    first, _, second = model
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.mul_(c)
        second.get_parameter("weight").div_(c)
    return ls.Problem(model, F.cross_entropy, [(x, y)])


@cache
def trained(config: Config, biases: bool = False) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Network, inputs and targets."""
    source = torch.Generator().manual_seed(0)
    shapes = ((config.hidden, config.inputs), (config.classes, config.hidden), (config.samples, config.inputs))
    first, second, x = (torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes)
    y = torch.randint(config.classes, (config.samples,), generator=source)  # labels without a pattern: no zero loss
    layers = [
        nn.Linear(n, m, bias=biases).double() for n, m in pairwise((config.inputs, config.hidden, config.classes))
    ]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    with torch.no_grad():
        for layer, weight in zip(layers, (first, second), strict=True):
            layer.weight.copy_(0.5 * weight)
            if biases:
                layer.bias.copy_(0.2 * weight[:, 0])
    problem = ls.Problem(model, F.cross_entropy, [(x, y)])
    w = problem.vector()
    for _ in range(config.steps):
        w = w - config.lr * problem.gradient(w)
    with torch.no_grad():
        for p, piece in zip(model.parameters(), problem.layout.unflatten(w), strict=True):
            p.copy_(piece)
    return model, x, y


def known() -> dict[str, tuple[str, Measure]]:
    """Cases that theory answers: name to what it expects, and the measure."""
    gap, average, m = ls.metrics.worst_case_gap, ls.metrics.average_gap, ls.metrics

    def exact_trace(problem: ls.Problem) -> ls.Estimate:
        return m.trace(problem, matvecs=problem.size)

    def exact_adam(problem: ls.Problem, adaptive: bool) -> ls.Estimate:
        return m.adam_sharpness(problem, adaptive=adaptive, matvecs=4 * problem.size)

    return {
        "tr H": ("moves", exact_trace),
        "λmax": ("moves", m.lambda_max),
        "tr diag(H)^½": ("moves", partial(exact_adam, adaptive=False)),
        "Euclidean gap": ("moves", partial(gap, steps=1)),
        "average gap": ("moves", average),
        "adaptive gap, η = 0": ("stays", partial(gap, geometry="adaptive", rho=0.2, steps=1)),
        "adaptive gap, filter-wise": ("stays", partial(gap, geometry="adaptive_filter", rho=0.2, steps=1)),
        "adaptive average": ("stays", partial(average, geometry="adaptive", rho=0.2)),
        "wᵀFw": ("stays", m.fisher_rao),
        "exact-Fisher gap, first order": ("stays", partial(gap, geometry="fisher", rho=1e-7, steps=1)),
        "Rényi by layer": ("stays", partial(m.renyi, by="layer")),
        "Σ |w| Hᵢᵢ^½": ("stays", partial(exact_adam, adaptive=True)),
        "relative flatness": ("stays", m.relative_flatness),
        "path norm": ("stays", m.path_norm),
        "normalised margin": ("stays", partial(m.margin, normalized=True)),
        "adaptive gap, η = 0.3": ("exception", partial(gap, geometry="adaptive", eta=0.3, steps=1)),
        "Fisher SAM's 1/(1 + ηf)": ("exception", partial(gap, geometry="fisher_diagonal", eta=1.0, steps=1)),
        "Rényi, whole network": ("exception", m.renyi),
        "exact-Fisher gap, ρ = 0.05": ("exception", partial(gap, geometry="fisher", rho=0.05, steps=1)),
    }


def biased() -> dict[str, tuple[str, Measure]]:
    """The same of a network with biases: a bias is multiplied with its weight, and not divided with the next one."""
    m = ls.metrics
    return {
        "wᵀFw, biases": ("stays", m.fisher_rao),
        "wᵀFw, biases, labels of the data": ("stays", partial(m.fisher_rao, labels="data")),
        "Rényi by layer, weights alone": ("stays", partial(m.renyi, by="layer", biases=False)),
        "Rényi by layer, with biases": ("exception", partial(m.renyi, by="layer")),
    }


STAY = {  # of METRICS, by theory
    "worst_case_gap_adaptive",
    "worst_case_gap_adaptive_filter",
    "worst_case_gap_normalized_l2",
    "worst_case_gap_normalized_linf",
    "average_gap_adaptive",
    "fisher_rao",
    "relative_flatness",
    "geodesic",  # without attention the element-wise adaptive ball
    "frobenius_norms",
    "spectral_norms",
}
EXCEPTIONS = {
    "worst_case_gap_fisher",  # a finite step: what the damping does in flat directions is not invariant
    "worst_case_gap_fisher_diagonal",
    "renyi",
    "renyi_half",
    "renyi_three_halves",
    "pac_bayes_sam",  # |w| enters by its logarithm only
}


def listed(names: tuple[str, ...] | None) -> dict[str, tuple[str, Measure]]:
    """The entries of METRICS as rows."""
    expected = dict.fromkeys(METRICS, "moves") | dict.fromkeys(STAY, "stays") | dict.fromkeys(EXCEPTIONS, "exception")
    return {name: (expected[name], METRICS[name]) for name in (METRICS if names is None else names)}


def change(values: list[Tensor]) -> float:
    """The largest relative change against the first, over factors and entries."""
    first, *others = values
    return max(float(((other - first) / first).abs().max()) for other in others)


def rows(config: Config) -> Iterator[dict[str, Any]]:
    """One row a measure: group, name, expected, values at c = 1 and the factors, change, holds."""
    groups = (
        ("known beforehand", known(), False),
        ("with biases", biased(), True),
        ("METRICS", listed(config.metrics), False),
    )
    for group, measures, biases in groups:
        problems = [network(config, c, biases) for c in (1.0, *config.factors)]
        for name, (expected, measure) in measures.items():
            values = [measure(problem).value for problem in problems]
            relative = change(values)
            own = {"group": group, "name": name, "expected": expected, "values": [value.tolist() for value in values]}
            holds = {"moves": relative > MOVED, "stays": relative <= EQUAL, "exception": relative > EQUAL}[expected]
            yield {**own, "change": relative, "holds": holds}


def main(config: Config) -> list[dict[str, Any]]:
    """The table; a finished one with the same settings is read again."""
    config = replace(config, metrics=tuple(METRICS) if config.metrics is None else config.metrics)
    folder = Path(config.folder)
    found = read_or_none(folder / "invariance.json")
    if found is None or differing(found["config"], asdict(config)):
        table = list(rows(config))
        found = {"finding": finding(table), "rows": table}
    table = found["rows"]
    found = {**found, "sentence": sentence(config)}
    publish(config, "invariance", found, partial(draw, table), claims=claims(table))
    (folder / "invariance.md").write_text(markdown(table))
    return list(table)


CLAIMED = {  # row of the table: paper, its claim, whether the value stays
    "tr H": ("Dinh et al. 2017, section 4", "the trace of the Hessian can be given any value", False),
    "λmax": ("Dinh et al. 2017, section 4", "λmax can be given any value", False),
    "path norm": ("Neyshabur et al. 2015, path norm", "the path norm is invariant", True),
    "wᵀFw": ("Liang et al. 2019, Fisher-Rao norm", "the Fisher-Rao norm is invariant", True),
    "adaptive gap, η = 0": ("Kwon et al. 2021, theorem 2", "adaptive sharpness is invariant", True),
    "relative flatness": ("Petzka et al. 2021, relative flatness", "relative flatness is invariant", True),
    "exact-Fisher gap, first order": ("Kim et al. 2022, section 3", "a Fisher ball's worst case is invariant", True),
    "Rényi by layer": (RENYI, "Rényi sharpness is invariant", True),
    "Rényi, whole network": (RENYI, "Rényi sharpness is invariant", True),
    "Rényi by layer, with biases": (RENYI, "Rényi sharpness is invariant", True),
    "geodesic": ("da Silva et al. 2025, abstract", "geodesic sharpness is invariant", True),
}


def claims(table: list[dict[str, Any]]) -> list[Claim]:
    """The papers', as far as their rows were computed."""
    found = {row["name"]: row["change"] for row in table}
    return [
        Claim(
            *CLAIMED[name][:2],
            f"{name}: {told(change)}",
            "agrees" if (change <= EQUAL if CLAIMED[name][2] else change > MOVED) else "differs",
        )
        for name, change in found.items()
        if name in CLAIMED
    ]


def told(change: float) -> str:
    """A relative change in words."""
    if change <= FLOOR:
        return "no change"
    return f"changes by {f'{change:.0e}' if change < MOVED else f'{change:.0%}'}"


def sentence(config: Config) -> str:
    """What was rescaled, and what the figure's grey means."""
    sizes = "-".join(map(str, (config.inputs, config.hidden, config.classes)))
    factors = " and ".join(f"{c:g}" for c in config.factors)
    return (
        f"ReLU network {sizes}, no batch norm, {config.steps} steps of gradient descent on {config.samples} random "
        f"samples, one seed, float64; its layers times c and 1/c, c = {factors}. Changes of at most {EQUAL:g} are "
        f"rounding, above {100 * MOVED:g} % they are moves, grey is between; no change at all is drawn at {FLOOR:g}."
    )


def finding(table: list[dict[str, Any]]) -> str:
    """What agrees with theory and what does not, in one sentence."""
    failing = [f"{row['name']} (changed by {row['change']:.1%})" for row in table if not row["holds"]]
    said = f"{len(table) - len(failing)} of {len(table)} measures behave as theory says"
    return f"{said}; not so: {', '.join(failing)}." if failing else f"{said}."


def markdown(table: list[dict[str, Any]]) -> str:
    """The table, changes with two digits."""
    lines = ["| measure | expected | largest change | as expected |", "|---|---|---|---|"]
    for row in table:
        shown = f"{row['change']:.1e}" if row["change"] < MOVED else f"{row['change']:.0%}"
        lines.append(f"| {row['name']} | {row['expected']} | {shown} | {'yes' if row['holds'] else '**no**'} |")
    return "\n".join([*lines, "", finding(table), ""])


def draw(table: list[dict[str, Any]]) -> Figure:
    """One row a measure: its largest relative change, on a logarithmic axis, with what theory expects as a colour."""
    figure = Figure(figsize=(6.4, 0.9 + 0.17 * len(table)), layout="compressed")
    ax = figure.add_subplot()
    looks = {"moves": (RED, "v"), "stays": (BLUE, "o"), "exception": (GREY, "D")}
    words = {"moves": "moves", "stays": "must not move", "exception": "documented as not invariant"}
    for expected, (color, marker) in looks.items():
        own = [(max(row["change"], FLOOR), y) for y, row in enumerate(table) if row["expected"] == expected]
        ax.plot(*zip(*own, strict=True), ls="", marker=marker, color=color, ms=4, label=words[expected])
    ax.axvspan(EQUAL, MOVED, color="0.93", linewidth=0)
    groups = [row["group"] for row in table]
    for group in dict.fromkeys(groups):
        y, text = groups.index(group), f"{group}, at their own settings" if group == "METRICS" else group
        if y > 0:
            ax.axhline(y - 0.5, color="0.6", linewidth=0.7)
        ax.annotate(text, (1e-11, y), fontsize=SMALL, color=GREY, va="center")
    ax.set_yticks(range(len(table)), [row["name"].replace("_", " ") for row in table], fontsize=SMALL)
    ax.set(xscale="log", ylim=(len(table) - 0.4, -0.6), xlabel="largest relative change over all c")
    legend_above(ax, columns=3)
    return figure


if __name__ == "__main__":
    command(main, Config)
