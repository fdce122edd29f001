import sys

import pytest
import torch

from landscape.problem.plugin import load_problem, named_function

SCRIPT = """
import torch
import landscape as ls
from beside_it import inputs

def make_problem():
    torch.manual_seed(0)
    return ls.Problem(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, (inputs, torch.arange(8) % 2))

def with_splits():
    problem = make_problem()
    return problem, {"train": problem.data, "test": [(inputs[:4], torch.arange(4) % 2)]}

def nothing():
    return 1

number = 3
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "beside_it.py").write_text("import torch\ninputs = torch.linspace(-1, 1, 24).view(8, 3)\n")
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    yield path
    sys.modules.pop("beside_it", None)


def test_a_script_gives_its_problem_and_what_lies_beside_it_is_found(script):
    before = list(sys.path)
    problem, splits = load_problem(f"{script}:make_problem")
    assert (problem.size, list(splits)) == (8, ["train"])
    assert problem.with_data(splits["train"]).loss() == problem.loss()
    assert sys.path == before


def test_a_function_may_import_what_lies_beside_it_when_it_is_called(tmp_path):
    """Also where another folder has a module of that name."""
    made = []
    for i, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        folder.mkdir()
        (folder / "beside_both.py").write_text(f"import torch\ninputs = torch.full((8, 3), {i + 1}.0)\n")
        lines = SCRIPT.replace("from beside_it import inputs\n", "").replace(
            "():\n", "():\n    from beside_both import inputs\n"
        )
        (folder / "mine.py").write_text(lines)
        made.append(named_function("problem", f"{folder}/mine.py:make_problem"))
    before = list(sys.path)
    for i in (0, 1, 0):
        problem = made[i]()
        assert float(problem.data[0][0].mean()) == i + 1
    assert sys.path == before
    assert made[0].__name__ == "make_problem"
    sys.modules.pop("beside_both")


def test_a_function_may_name_its_splits(script):
    _, splits = load_problem(f"{script}:with_splits")
    assert list(splits) == ["train", "test"]


def test_a_module_is_found_from_the_present_folder(script, monkeypatch):
    monkeypatch.chdir(script.parent)
    problem, _ = load_problem("mine:make_problem")
    assert torch.isfinite(problem.loss())
    sys.modules.pop("mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make_problem", "problem must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, got 'make_problem'"),
        ("{folder}/other.py:f", "problem must name a file that exists"),
        ("{folder}/mine.py:f", "problem must name a function in .*mine.py, got 'f'"),
        ("{folder}/mine.py:number", "problem must name a function"),
        ("{folder}/mine.py:nothing", r"must return a Problem or \(Problem, splits\), got int"),
        ("no_such_package.module:f", "No module named 'no_such_package'; give a path"),
    ],
)
def test_what_is_no_problem_is_named(script, name, message):
    with pytest.raises(ValueError, match=message):
        load_problem(name.format(folder=script.parent))
