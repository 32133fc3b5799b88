"""docs/notebook.ipynb, cell by cell in one namespace, as a notebook runs it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from cls.settings import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "notebook.ipynb"


def run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Runs a cell; returns what its last line shows, None where that ends in a semicolon or is no expression."""
    tree = ast.parse(source, str(NOTEBOOK))
    last = tree.body[-1]
    if not isinstance(last, ast.Expr) or source.rstrip().endswith(";"):
        exec(compile(tree, str(NOTEBOOK), "exec"), namespace)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), str(NOTEBOOK), "exec"), namespace)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), namespace)


def test_the_notebook_keeps_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" if cell["outputs"]] == []


@pytest.mark.long
def test_every_cell_of_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    shown = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            value = run_cell("".join(cell["source"]), namespace)
            html = getattr(value, "_repr_html_", None)
            if html is not None:
                shown[type(value).__name__] = html()
    assert list(shown) == ["LoadedGroup", "Run", "People", "Exported"]
    assert "group hair_color: 40 photos" in shown["LoadedGroup"]
    assert namespace["run"].name in shown["Run"]
    assert shown["People"].count("<polygon") >= 1
    assert "data:image/jpeg;base64," in shown["People"]
    assert "model_onnx.zip" in shown["Exported"]
    assert namespace["run"].report.is_file()
