"""From a study that has run to its table, figures and page."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from landscape.plots.style import words
from landscape.report.answer import answer
from landscape.report.evidence import IN_ERROR, TARGET, Evidence, gather
from landscape.report.figures import study_figures
from landscape.report.page import Page, write_page, write_table
from landscape.report.summary import compared, findings, limits
from landscape.storage.results import read_json, write_json
from landscape.study.network_record import METRICS_FILE, Analysis
from landscape.study.study_runner import StudyConfig, costs, seconds

MANIFEST = "study.json"


def report_study(
    config: StudyConfig,
    out: Path,
    title: str,
    *,
    embed: bool = True,
    evidence: Evidence | None = None,
    made_from: Mapping[str, str | None] | None = None,
) -> Path:
    """Write metrics.csv, correlations.csv, study.json, the figures and report.html of a finished study into `out`.

    Args:
        config: the study.
        out: folder for the files.
        title: of the page, the question.
        embed: whether the page holds its figures, and is one file; else they lie beside it.
        evidence: what `gather` gave, where it is known already.
        made_from: the files behind the study, seen from `out`, which study.json shall name.
    Returns:
        The page.
    Raises:
        ValueError: if a network's results are missing, fewer than three came through, or `out` cannot be written.
    """
    writable(out)
    evidence = gather(config) if evidence is None else evidence
    folders = {name: Path(network.folder) for name, network in config.members.items()}
    figures = study_figures(evidence, folders, out)
    write_table(evidence.rows, out / "metrics.csv")
    write_table(_correlation_rows(evidence), out / "correlations.csv")
    versions = read_json(folders[evidence.rows[0]["name"]] / METRICS_FILE)["versions"]
    named = {} if made_from is None else {"made_from": dict(made_from)}
    write_json(out / MANIFEST, {**_manifest(config, evidence, versions), **named})
    page = Page(
        title=title,
        answer=answer(evidence),
        about=compared(evidence),
        findings=[sentence for sentence in findings(evidence) if sentence != compared(evidence)],
        limits=limits(evidence),
        evidence=evidence,
        figures=figures,
        settings=_settings(config.analysis),
        facts=_facts(config, evidence, versions),
    )
    return write_page(page, out / "report.html", embed=embed)


def writable(out: Path) -> None:
    """Make the folder. Raises ValueError in one line if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"the output folder must be writable, got {out}: {error.strerror}; choose another") from error


def _correlation_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """A line for each metric and target."""
    lines = []
    by_gap = {TARGET: evidence.correlations, IN_ERROR: evidence.in_error, **evidence.noisy}
    for target, correlations in by_gap.items():
        for name, found in correlations.items():
            plain = {key: value for key, value in asdict(found).items() if key != "psi"}
            psi = {f"psi_{axis}": value for axis, value in found.psi.items()}
            lines.append({"metric": name, "target": target, **plain, **psi, "not_converged": evidence.open[name]})
    return lines


def _settings(analysis: Analysis) -> dict[str, dict[str, Any]]:
    """Metric to its settings; Rényi sharpness is read off the density that is kept."""
    settings = {name: dict(own) for name, own in analysis.settings.items()}
    if analysis.probes:
        kept = {"probes": analysis.probes, "steps": analysis.steps, "leading": False}
        settings["renyi"] = {**settings.get("renyi", {}), **kept}
    return settings


def _manifest(config: StudyConfig, evidence: Evidence, versions: dict[str, str]) -> dict[str, Any]:
    networks = {name: network.settings() for name, network in config.members.items()}
    first = next(iter(networks.values()))
    common = {key: value for key, value in first.items() if all(own.get(key) == value for own in networks.values())}
    own = {
        name: {key: value for key, value in settings.items() if key not in common}
        for name, settings in networks.items()
    }
    return {
        "versions": versions,
        "analysis": asdict(config.analysis),
        "families": {name: list(variants) for name, variants in config.families.items()},
        "selections": {name: asdict(found) for name, found in evidence.selections.items()},
        "broken": dict(evidence.broken),
        "common": common,
        "members": own,
    }


def _facts(config: StudyConfig, evidence: Evidence, versions: dict[str, str]) -> dict[str, str]:
    sizes = [read_json(Path(config.members[row["name"]].folder) / METRICS_FILE)["parameters"] for row in evidence.rows]
    common = _manifest(config, evidence, versions)["common"]
    spent, cost = seconds(config), costs(config)
    values = {axis: list(dict.fromkeys(row[axis] for row in evidence.rows)) for axis in evidence.axes}
    analysis = config.analysis
    facts = {
        "networks": f"{min(sizes):,} to {max(sizes):,} parameters" if len({*sizes}) > 1 else f"{sizes[0]:,} parameters",
        "varied": "; ".join(f"{words(axis)}: {', '.join(map(str, own))}" for axis, own in values.items()),
        "the same for all": ", ".join(_shown(key, value) for key, value in common.items() if value not in ("", {})),
        "rules": "; ".join(
            dict.fromkeys(
                _shown(own["optimizer"], own["rule_settings"])
                for own in (network.settings() for network in config.members.values())
                if {"optimizer", "rule_settings"} <= own.keys()
            )
        ),
        "seed of the analysis": str(analysis.seed),
        "data of the metrics": f"the first {analysis.samples:,} training images" if analysis.samples else "all",
        "density": f"{analysis.probes} probes of {analysis.steps} steps" if analysis.probes else "",
        "cost of the metrics": f"{sum(cost.values()):.0f} gradients of the loss a network, of which "
        f"{cost['shared']:.0f} are work that several share",
        "time of the processes": ", ".join(
            f"{what} {value:.0f} s ({value / len(config.members):.1f} s a network)" for what, value in spent.items()
        ),
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }
    return {name: text for name, text in facts.items() if text}


def _shown(key: str, value: Any) -> str:
    """A setting in words: "lr 0.1", "sam (rho 0.2)"."""
    name = words(key)
    if isinstance(value, dict):
        return f"{name} ({', '.join(f'{words(k)} {v}' for k, v in value.items())})" if value else name
    return f"{name} {value}"
