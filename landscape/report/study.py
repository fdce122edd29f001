"""From a study that has run to its table, figures and page."""

from pathlib import Path
from typing import Any

from landscape.plots.style import words
from landscape.report.figures import study_figures
from landscape.report.page import Page, write_page, write_table
from landscape.report.summary import findings, limits
from landscape.results import read_json, write_json
from landscape.study import correlate
from landscape.study.member import METRICS_FILE
from landscape.study.zoo import StudyConfig, table

TARGET = "generalization_gap"


def report_study(config: StudyConfig, out: Path, title: str) -> Path:
    """Write metrics.csv, study.json, the figures and report.html of a finished study into `out`.

    Returns:
        The page.
    Raises:
        ValueError: if a member's results are missing, or `out` cannot be written.
    """
    writable(out)
    rows = table(config)
    metrics = list(config.analysis.metrics)
    correlations = correlate(rows, metrics, TARGET, axes=["rule", "seed"])
    folders = {name: Path(member.folder) for name, member in config.members.items()}
    figures = study_figures(rows, folders, metrics, correlations, out)
    write_table(rows, out / "metrics.csv")
    write_json(out / "study.json", _manifest(config))
    page = Page(
        title=title,
        findings=findings(rows, correlations),
        limits=limits(rows, correlations),
        rows=rows,
        metrics=metrics,
        correlations=correlations,
        figures=figures,
        settings=config.analysis.settings,
        facts=_facts(config),
    )
    return write_page(page, out / "report.html")


def writable(out: Path) -> None:
    """Make the folder. Raises ValueError in one line if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"the output folder must be writable, got {out}: {error.strerror}; choose another") from error


def _manifest(config: StudyConfig) -> dict[str, Any]:
    first = read_json(Path(next(iter(config.members.values())).folder) / METRICS_FILE)
    members = {name: member.settings() for name, member in config.members.items()}
    return {"versions": first["versions"], "analysis": first["asked"], "members": members}


def _facts(config: StudyConfig) -> dict[str, str]:
    folders = [Path(member.folder) for member in config.members.values()]
    trained, measured = (read_json(folders[0] / name) for name in ("model.json", METRICS_FILE))
    one = next(iter(config.members.values())).settings()
    shown = (
        "dataset",
        "label_noise",
        "model",
        "model_settings",
        "lr",
        "momentum",
        "weight_decay",
        "batch_size",
        "epochs",
    )
    seconds = {
        "training": sum(read_json(folder / "model.json")["seconds"] for folder in folders),
        "metrics": sum(read_json(folder / METRICS_FILE)["seconds"] for folder in folders),
    }
    return {
        "network": f"{trained['parameters']:,} parameters; {', '.join(_shown(key, one[key]) for key in shown)}",
        "rules": "; ".join(
            dict.fromkeys(_shown(member.optimizer, dict(member.rule_settings)) for member in config.members.values())
        ),
        "seeds": f"training {sorted({m.seed for m in config.members.values()})}, analysis {config.analysis.seed}",
        "density": f"{config.analysis.probes} probes of {config.analysis.steps} steps",
        "processor time": ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in measured["versions"].items()),
    }


def _shown(key: str, value: Any) -> str:
    """A setting in words: "lr 0.1", "sam (rho 0.2)"."""
    name = words(key)
    if isinstance(value, dict):
        return f"{name} ({', '.join(f'{words(k)} {v}' for k, v in value.items())})" if value else name
    return f"{name} {value}"
