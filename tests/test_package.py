"""The package as a stranger gets it: what is imported, what is asked for, what an installed wheel has."""

import ast
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import pytest
import torch
import yaml

import landscape as ls
from landscape.data import load
from landscape.interop.goldstein import read_surface
from landscape.models import build
from landscape.plots import interactive_surface
from landscape.processes.cluster import cluster

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {"scipy", "sklearn", "matplotlib", "pyhessian", "pydantic", "jinja2", "plotly", "pandas", "yaml", "jaxtyping"}


@pytest.fixture(scope="module")
def fresh() -> dict[str, Any]:
    """What a fresh Python finds."""
    program = """
import json, sys
import torch
before = set(sys.modules)
import landscape as ls
new = set(sys.modules) - before
names, at_first = dir(ls), list(vars(ls))
same = [getattr(ls, name) is not None for name in ls.__all__]
from landscape import TrainConfig
from landscape.study import run_study
from landscape.training import read_log
modules = (ls.models, ls.data, ls.plots, ls.report, ls.training.trainer, ls.study.robustness)
print(json.dumps({
    "new": sorted({name.partition(".")[0] for name in new}),
    "sharded tensors": "torch.distributed.tensor" in new,
    "at first": at_first,
    "listed": names,
    "same": ls.TrainConfig is TrainConfig and ls.study.run_study is run_study and ls.training.read_log is read_log,
    "modules": [module.__name__ for module in modules],
}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return dict(json.loads(done.stdout))


# --- importing it


def test_importing_it_loads_no_heavy_package(fresh: dict[str, Any]) -> None:
    assert not HEAVY & set(fresh["new"])
    assert not fresh["sharded tensors"]
    assert not {"TrainConfig", "train", "load_run"} & set(fresh["at first"])


def test_every_name_is_listed_and_found_when_it_is_asked_for(fresh: dict[str, Any]) -> None:
    assert set(ls.__all__) <= set(fresh["listed"])
    assert fresh["same"]
    found = ("models", "data", "plots", "report", "training.trainer", "study.robustness")
    assert fresh["modules"] == [f"landscape.{name}" for name in found]


def test_a_name_that_is_not_there_is_an_attribute_error_and_a_missing_package_is_told(monkeypatch) -> None:
    with pytest.raises(AttributeError, match="module 'landscape' has no attribute 'no_such'"):
        _ = ls.no_such  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in [name for name in sys.modules if name.startswith("landscape.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(ls, "report", raising=False)
    with pytest.raises(ImportError, match="jinja2"):
        _ = ls.report  # type: ignore[attr-defined]


# --- what is an extra


EXTRAS: dict[str, tuple[str, Callable[[], object]]] = {  # module, the extra that has it, and what asks for it
    "dask": ("cluster", lambda: cluster("local").__enter__()),
    "datasets": ("datasets", lambda: load("huggingface", str(ROOT))),
    "distributed": ("cluster", lambda: cluster("local").__enter__()),
    "gudhi": ("topology", lambda: ls.persistence(torch.eye(3), dimension=1)),
    "h5py": ("hdf5", lambda: read_surface(ROOT / "none.h5")),
    "lightning": ("lightning", lambda: import_module("landscape.interop.lightning")),
    "plotly": ("interactive", lambda: interactive_surface(PLANE)),
    "pytorch_optimizer": ("optimizers", lambda: ls.TrainConfig(folder=".", base="pytorch_optimizer:Lamb")),
    "timm": ("networks", lambda: build("timm:resnet18", {}, 0)),
    "torchvision": ("networks", lambda: build("torchvision:resnet18", {}, 0)),
    "transformers": ("huggingface", lambda: import_module("landscape.interop.huggingface")),
}
PLANE = ls.Slice2D(torch.zeros(2), torch.zeros(2), {"train": torch.zeros(2, 2)}, {}, torch.ones(2), torch.tensor(0.0))


@pytest.mark.parametrize("module", EXTRAS)
def test_without_an_extra_the_error_names_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra, asks = EXTRAS[module]
    named = [re.split(r"[<>=]", text)[0].replace("-", "_") for text in PROJECT["optional-dependencies"][extra]]
    assert module in named
    for name in (module, f"{module}.models", f"{module}.pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("landscape.interop.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=rf"needs {module}.*; pip install 'landscape-toolkit\[{extra}\]'") as caught:
        asks()
    assert "\n" not in str(caught.value)


def test_an_extra_that_does_not_load_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers beside a torchvision that was built for another torch."""

    def broken(_name: str) -> None:
        try:
            raise RuntimeError("operator torchvision::nms does not exist")
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'Trainer'") from error

    module = ModuleType("transformers")
    module.__spec__ = ModuleSpec("transformers", None)
    module.__getattr__ = broken  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "transformers", module)
    for name in [name for name in sys.modules if name.startswith("landscape.interop.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ImportError, match=r"is installed and does not load: operator torchvision::nms does not exist; w"
    ):
        import_module("landscape.interop.huggingface")


def test_what_is_imported_comes_with_the_base_or_is_an_extra() -> None:
    named = {re.split(r"[<>=]", text)[0].lower().replace("_", "-") for text in PROJECT["dependencies"]}
    base = {module for module, owners in packages_distributions().items() if {o.lower() for o in owners} & named}
    found: dict[str, set[str]] = {}
    for path in (ROOT / "landscape").rglob("*.py"):
        for name in imported(path):
            found.setdefault(name, set()).add(path.name)
    with_them = {"PIL", "mpl_toolkits", "markupsafe", "pydantic_core"}  # matplotlib, jinja2, pydantic
    foreign = found.keys() - base - with_them - {"landscape", "jaxtyping"} - sys.stdlib_module_names
    assert foreign <= EXTRAS.keys(), f"imported and neither a dependency nor in EXTRAS: {foreign - EXTRAS.keys()}"


def imported(path: Path) -> set[str]:
    """First parts of all that a file imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.partition(".")[0] for name in names}


# --- built and installed


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked source distribution, which then lacks nothing."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    shutil.copytree(ROOT / "landscape", source / "landscape", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", build, cwd=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    quiet = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *quiet, "--no-build-isolation", "-w", folder, unpacked, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if name.startswith("landscape/")}
    files = (path for path in (ROOT / "landscape").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {path.relative_to(ROOT).as_posix() for path in files}
    assert wheel.name.startswith(f"landscape_toolkit-{PROJECT['version']}-py3-none-any")


def test_the_command_runs_from_the_wheel_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    python = home / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel, cwd=tmp_path)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # torch and the rest as they are here
    program = "from importlib.util import find_spec; print(find_spec('landscape').origin)"
    assert Path(run(python, "-I", "-c", program, cwd=tmp_path).strip()).is_relative_to(home)
    said = run(home / "bin" / "landscape", "--help", cwd=tmp_path)
    assert all(command in said for command in ("train", "analyze", "slice", "study", "demo"))


# --- what is said of it


def test_version_and_citation_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "abstract", "authors", "keywords"} <= citation.keys()
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    assert citation["version"] == ls.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert heading == f"## {citation['version']} ({citation['date-released']})"


def test_the_workflow_runs_what_a_person_runs() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [f"make {name}" for name in jobs["check"]["strategy"]["matrix"]["command"]]
    assert commands == re.findall(r"^make \w+$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert jobs["check"]["steps"][-1]["run"] == "make ${{ matrix.command }}"
