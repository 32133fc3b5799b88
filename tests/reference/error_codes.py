"""docs/reference/errors.md: the error codes, from what the code raises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from cls.settings import REPOSITORY
from tests.reference.what_to_do import what_to_do

_ROOTS = ("Fault", "ClsError")
_CASE = re.compile(r"[a-z][a-z0-9_]*")
_INTRODUCTION = """\
# Error codes

Every expected error has a code that stays when its words change. A command prints the error on one line; `--debug`
shows the code and the traceback, and `--json` has the code in the field `code`. Scripts should go by the code. `…`
stands for what differs: names, paths, numbers.

Where one error leads to another, the second keeps the case in an area of its own: an answer of the wrong shape is
`prediction.wrong_output_shape` in a prediction and `parity.wrong_output_shape` in a parity check. Codes that arise only
so are not listed again.

Where an error lists several faults, such as all that is wrong with a package, each has a code, too: `--debug` shows
them after the error's own, and `--json` has them in the field `faults`.

## Exit statuses

| status | what happened |
|---|---|
| 0 | the command is done |
| 1 | an expected error that options are not to blame for |
| 2 | wrong options: the command line's own errors, and those of the area `usage` |
| 3 | done but incomplete: some pictures could not be had for now; the same command tries those again |
| 130 | interrupted by Ctrl-C |

This page is generated from the code: `python -m tests.reference` writes it.
"""


@dataclass(frozen=True)
class ErrorClass:
    """A class of errors: its area, and the first line of its docstring."""

    area: str
    meaning: str


@dataclass
class ErrorCode:
    """What is said where a code is raised, each sentence once."""

    whats: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


class _Module:
    """One module and the definitions in it that codes are looked up in."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        self.tables = {name: value for node in tree.body for name, value in _assigned(node)}

    def calls(self) -> Iterator[tuple[ast.FunctionDef | None, ast.Call]]:
        """Every call with a keyword `code`, and the function around it."""
        functions = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]
        around = {call: function for function in functions for call in ast.walk(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _keyword(node, "code") is not None:
                yield around.get(node), node

    def constants(self, value: ast.expr, function: ast.FunctionDef | None, place: int | None = None) -> set[str]:
        """The texts that an expression can be, as far as this module says; in a tuple, those at the place."""
        if isinstance(value, ast.Constant):
            return {value.value} if isinstance(value.value, str) and place is None else set()
        if isinstance(value, ast.Tuple) and place is not None and len(value.elts) > place:
            return self.constants(value.elts[place], function)
        if isinstance(value, ast.Name):
            return self._named(value.id, function, place)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in self.functions:
            called = self.functions[value.func.id]
            returned = [node.value for node in ast.walk(called) if isinstance(node, ast.Return) and node.value]
            return self._any(returned, called, place)
        if isinstance(value, ast.IfExp):
            return self._any([value.body, value.orelse], function, place)
        if isinstance(value, ast.ListComp):
            return self.constants(value.generators[0].iter, function, place)
        if isinstance(value, ast.JoinedStr):
            return set()
        return self._any([node for node in ast.iter_child_nodes(value) if isinstance(node, ast.expr)], function, place)

    def note(self, call: ast.Call, function: ast.FunctionDef | None, case: str, code: ErrorCode) -> None:
        """Adds to a code what is said by a call that makes an error of it."""
        said = [self.sentences(value, function) for value in _arguments(call)]
        code.whats += [text for text in next(filter(None, said), []) if text not in code.whats]
        hint = _keyword(call, "hint")
        hints = self.sentences(hint, function)
        if not hints and isinstance(hint, ast.Name):
            # It comes out of a table whose entries are (case, hint).
            pairs = [node.elts for node in ast.walk(self.tree) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
            beside = [other for first, other in pairs if isinstance(first, ast.Constant) and first.value == case]
            hints = [text for value in beside for text in self.sentences(value, None)]
        code.hints += [text for text in hints if text not in code.hints]

    def sentences(self, value: ast.expr | None, function: ast.FunctionDef | None) -> list[str]:
        """The texts that an expression can be, with `…` for what is filled in."""
        if isinstance(value, ast.Constant):
            return [value.value] if isinstance(value.value, str) else []
        if isinstance(value, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in value.values)
            return [re.sub(r"…(,? ?…)+", "…", text)] if re.search(r"\w", text) else []
        if isinstance(value, ast.IfExp):
            return [*self.sentences(value.body, function), *self.sentences(value.orelse, function)]
        if isinstance(value, ast.BinOp):
            return [text + (" …" if text.endswith(":") else "") for text in self.sentences(value.left, function)]
        if isinstance(value, ast.Name) and function is not None:
            first = _first_line(function, value)
            named = [made for node in ast.walk(function) for name, made in _assigned(node) if name == value.id]
            values = [made for made in named if first <= made.lineno <= value.lineno]
            values = values or [self.tables[value.id]] if value.id in self.tables else values
            return [text for made in values for text in self.sentences(made, None)]
        return []

    def _any(self, values: list[ast.expr], function: ast.FunctionDef | None, place: int | None) -> set[str]:
        return {text for value in values for text in self.constants(value, function, place)}

    def _named(self, name: str, function: ast.FunctionDef | None, place: int | None) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(function) if function is not None else ():
            for target, value in _assigned(node):
                if target == name and not _mentions(value, name):
                    found |= self.constants(value, function, place)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                names = [target.id for target in node.targets[0].elts if isinstance(target, ast.Name)]
                if name in names:
                    found |= self.constants(node.value, function, names.index(name))
        if not found and name in self.tables:
            found = self.constants(self.tables[name], None, place)
        return found


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Name and value of an assignment to a plain name."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = getattr(node, "value", None)
    for target in targets:
        if isinstance(target, ast.Name) and value is not None:
            yield target.id, value


def _first_line(function: ast.FunctionDef, use: ast.Name) -> int:
    """The line from which on assignments to a name matter: the last one before its use, in the same block."""
    first = 0
    for node in ast.walk(function):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and block and block[0].lineno <= use.lineno <= block[-1].end_lineno:
                lines = [one.lineno for one in block for name, _ in _assigned(one) if name == use.id]
                first = max([first, *(line for line in lines if line < use.lineno)])
    return first


def _mentions(value: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(value))


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords if keyword.arg == "what")


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _modules() -> Iterator[_Module]:
    # The root of all errors first: classes elsewhere are derived from the ones there.
    root = REPOSITORY / "cls" / "errors.py"
    for path in (root, *sorted(set((REPOSITORY / "cls").rglob("*.py")) - {root})):
        yield _Module(ast.parse(path.read_text(encoding="utf-8")))


def _classes_of(module: _Module, known: dict[str, ErrorClass]) -> dict[str, ErrorClass]:
    found = dict(known)
    for node in module.tree.body:
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)] if isinstance(node, ast.ClassDef) else []
        parent = next((found[base] for base in bases if base in found), None)
        if isinstance(node, ast.ClassDef) and (parent is not None or node.name in _ROOTS):
            own = [value for line in node.body for name, value in _assigned(line) if name == "area"]
            area = ast.literal_eval(own[0]) if own else parent.area if parent is not None else ""
            found[node.name] = ErrorClass(area, (ast.get_docstring(node) or "").partition("\n")[0])
    return found


@cache
def read_error_codes() -> tuple[dict[str, ErrorClass], dict[str, ErrorCode]]:
    """The classes of errors by name, and what is raised by code."""
    modules = list(_modules())
    classes: dict[str, ErrorClass] = {}
    for _ in range(2):  # a class may stand in a module before its parent's
        for module in modules:
            classes = _classes_of(module, classes)
    codes: dict[str, ErrorCode] = {}
    for module in modules:
        for function, call in module.calls():
            for area in _areas(module, function, call, classes):
                for case in module.constants(_keyword(call, "code") or call, function):
                    if _CASE.fullmatch(case):
                        module.note(call, function, case, codes.setdefault(f"{area}.{case}", ErrorCode()))
    return classes, codes


def _areas(
    module: _Module, function: ast.FunctionDef | None, call: ast.Call, classes: dict[str, ErrorClass]
) -> set[str]:
    """The areas of the errors that a call makes: itself, a helper in its module, or a class handed over."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name in classes:
        return {classes[name].area}
    source: ast.AST | None = module.functions.get(name)
    if source is None and function is not None:
        parameters = [*function.args.args, *function.args.kwonlyargs]
        source = next((one.annotation for one in parameters if one.arg == name), None)
    names = [node.id for node in ast.walk(source) if isinstance(node, ast.Name)] if source is not None else []
    if source is None:  # an outcome whose code an error of this module takes over
        takers = [made.func for _, made in module.calls() if isinstance(_keyword(made, "code"), ast.Attribute)]
        names = [taker.id for taker in takers if isinstance(taker, ast.Name)]
    return {classes[one].area for one in names if one in classes}


def _cell(sentences: list[str]) -> str:
    return "<br>".join(sorted(sentences)).replace("|", "\\|").replace("\n", " ")


def page() -> str:
    """The page as Markdown."""
    classes, codes = read_error_codes()
    lines = [_INTRODUCTION]
    for area in sorted({code.partition(".")[0] for code in codes}):
        lines.append(f"## `{area}`\n")
        lines += [f"`{name}`: {one.meaning}" for name, one in classes.items() if one.area == area]
        lines += ["", "| code | what happened | what to do |", "|---|---|---|"]
        for code in sorted(code for code in codes if code.partition(".")[0] == area):
            whats = codes[code].whats or [code.partition(".")[2].replace("_", " ")]
            lines.append(f"| `{code}` | {_cell(whats)} | {_cell(codes[code].hints or [what_to_do(code)])} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
