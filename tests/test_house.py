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
    assert len(list((ROOT / "landscape").glob("*.py"))) <= 6


def test_files_are_short():
    lines = {path: path.read_text().count("\n") for path in FILES}
    assert [str(path) for path, count in lines.items() if count > 300] == []
    assert median(lines.values()) < 100


def test_functions_are_short():
    long = [
        f"{path.stem}.{node.name}" for path in FILES for node in functions(path) if node.end_lineno - node.lineno > 60
    ]
    assert long == []


def test_few_functions_have_many_arguments():
    many = [f"{path.stem}.{node.name}" for path in FILES for node in functions(path) if arguments(node) >= 8]
    assert len(many) <= 26, many  # public calls whose keywords are a contract, most of them; no more of them
