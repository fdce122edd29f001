"""How the house is built: few modules at the top, no long file or function, few arguments."""

import ast
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "landscape").rglob("*.py"))


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def arguments(function):
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_the_top_floor_has_few_modules():
    files = [path.name for path in (ROOT / "landscape").glob("*.py")]
    assert len(files) <= 6, f"{files}: a new file lies in a room of landscape/, see docs/house.md"


def test_files_are_short():
    lines = {path: path.read_text().count("\n") for path in FILES}
    long = [str(path.relative_to(ROOT)) for path, count in lines.items() if count > 300]
    assert not long, f"above 300 lines: {long}; split them by what they are about"
    assert median(lines.values()) < 100, "half of all files must stay below 100 lines"


def test_functions_are_short():
    long = [
        f"{path.stem}.{node.name}" for path in FILES for node in functions(path) if node.end_lineno - node.lineno > 60
    ]
    assert not long, f"above 60 lines: {long}; take a part out by name"


def test_few_functions_have_many_arguments():
    many = [f"{path.stem}.{node.name}" for path in FILES for node in functions(path) if arguments(node) >= 8]
    # public calls whose keywords are a contract, most of them
    assert len(many) <= 26, f"{len(many)} functions of 8 arguments or more, where 26 may be: {many}; group settings"
