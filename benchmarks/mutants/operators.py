"""What a mutant changes: Cosmic Ray's operators that make small changes, and some that it does not have."""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import Name
from parso.tree import NodeOrLeaf

# Replacements that keep types, so that a mutant is not killed by the first call with a TypeError.
_BINARY = "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Div Mod_FloorDiv Pow_Mul BitOr_BitAnd BitAnd_BitOr"
_COMPARISON = "Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is Lt_LtE Lt_Gt LtE_Lt LtE_GtE Gt_GtE Gt_Lt GtE_Gt GtE_LtE"
_UNARY = "Delete_Not USub_UAdd Invert_UAdd"
_OTHER = "AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd ReplaceBreakWithContinue"
_OTHER += " ReplaceContinueWithBreak ExceptionReplacer NumberReplacer ZeroIterationForLoop"
_CORE = [
    *(f"ReplaceBinaryOperator_{pair}" for pair in _BINARY.split()),
    *(f"ReplaceComparisonOperator_{pair}" for pair in _COMPARISON.split()),
    *(f"ReplaceUnaryOperator_{pair}" for pair in _UNARY.split()),
    *_OTHER.split(),
]
_PAIRS = "any all, min max, floor ceil, minimum maximum, argmin argmax, startswith endswith, height width, rows columns"
_PAIRS += ", left right, top bottom, height_px width_px, lower upper, issubset issuperset, first last"
_OPPOSITES = dict(pair.split() for pair in _PAIRS.split(", "))
_OPPOSITES |= {value: key for key, value in _OPPOSITES.items()}
# Calls that a value may lose and stay of its type: `abs(x)` -> `x`, `x.clip(0, 1)` -> `x`.
_UNWRAPPED = {"abs", "round", "sorted", "reversed", "set", "clip", "clamp", "sqrt", "log", "exp", "sigmoid", "rint"}
_UNCHAINED = {"clip", "clamp", "abs", "round", "strip", "lower", "casefold", "rstrip", "lstrip", "sort", "resolve"}
_LOGGED = re.compile(r"(_?log(ger|ging)?\.|warnings\.warn|print\()")
_WORD = re.compile(r"""(['"])[A-Za-z_][\w./-]*\1""")


class Rewriting(Operator):
    """An operator whose replacements are source text of the node that they replace."""

    def replacements(self, node: NodeOrLeaf) -> Iterator[str]:
        """Source text of every mutation of one node."""
        raise NotImplementedError

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        for _ in self.replacements(node):
            yield (node.start_pos, node.end_pos)

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:
        text = list(self.replacements(node))[index]
        return Name(text, node.start_pos, prefix=node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class SwapNeighbours(Rewriting):
    """`f(a, b)` -> `f(b, a)`, `(height, width)` -> `(width, height)`, `f(x=a, y=b)` -> `f(x=b, y=a)`."""

    def replacements(self, node: NodeOrLeaf) -> Iterator[str]:
        if node.type not in ("arglist", "testlist_comp", "testlist_star_expr", "subscriptlist", "exprlist", "testlist"):
            return
        if _has_no_order(node):
            return
        items = node.children[::2]
        for first, second in itertools.pairwise(items):
            keyword = _keyword(first), _keyword(second)
            if None in keyword or first.get_code().strip() == second.get_code().strip():
                continue
            swapped = [child.get_code(include_prefix=child is not node.children[0]) for child in node.children]
            place = node.children.index(first)
            for offset, name, value in ((0, keyword[0], _value(second)), (2, keyword[1], _value(first))):
                prefix = "" if place + offset == 0 else node.children[place + offset].get_first_leaf().prefix
                swapped[place + offset] = prefix + (f"{name}=" if name else "") + value
            yield "".join(swapped)


def _has_no_order(node: NodeOrLeaf) -> bool:
    """Whether what stands beside each other has no order: `in (a, b)`, `except (A, B)`, `max(a, b)`."""
    outer = node.parent
    if outer.type == "trailer":
        called = outer.get_previous_sibling()
        name = called.get_last_leaf().value if called is not None else ""
        return name in ("isinstance", "issubclass", "suppress", "max", "min", "maximum", "minimum", "gcd", "union")
    beside = outer.get_previous_sibling()
    around = outer.parent
    in_call = around is not None and around.type == "arglist" and around.parent.get_previous_sibling() is not None
    return (
        (beside is not None and beside.get_code().split() in (["in"], ["not", "in"], ["except"]))
        or (outer.type == "except_clause" or (around is not None and around.type == "except_clause"))
        or (in_call and around.parent.get_previous_sibling().get_last_leaf().value in ("isinstance", "startswith"))
    )


def _keyword(item: NodeOrLeaf) -> str | None:
    """Name of a keyword argument, '' of a positional one, None of what cannot be swapped (`*a`, a comprehension)."""
    if item.type == "argument":
        return item.children[0].value if item.children[1] == "=" else None
    return None if item.type in ("star_expr", "sync_comp_for", "comp_for", "operator") else ""


def _value(item: NodeOrLeaf) -> str:
    parts = item.children[2:] if item.type == "argument" else [item]
    return "".join(part.get_code() for part in parts).strip()


class Opposite(Rewriting):
    """`any` -> `all`, `min` -> `max`, `height` -> `width`, and back; no definitions and no names of keywords."""

    def replacements(self, node: NodeOrLeaf) -> Iterator[str]:
        if node.type == "name" and node.value in _OPPOSITES and not node.is_definition():
            parent = node.parent
            if not (parent.type in ("argument", "param") and parent.children[0] is node):
                yield _OPPOSITES[node.value]


class DropCall(Rewriting):
    """`abs(x)` -> `(x)`, `np.clip(x, 0, 1)` -> `(x)`, `x.clip(0, 1)` -> `x`."""

    def replacements(self, node: NodeOrLeaf) -> Iterator[str]:
        if node.type != "atom_expr" or node.children[-1].type != "trailer" or node.children[-1].children[0] != "(":
            return
        called = node.children[-2]
        name = called.children[-1] if called.type == "trailer" and called.children[0] == "." else called
        inside = node.children[-1].children[1:-1]
        if name.type != "name" or not (name.value in _UNWRAPPED or name.value in _UNCHAINED):
            return
        owner = "".join(child.get_code() for child in node.children[:-2]).strip()
        is_method = called.type == "trailer" and owner not in ("np", "math", "torch", "numpy", "torch.nn.functional")
        if is_method and name.value in _UNCHAINED:
            yield owner
        elif inside and not is_method and name.value in _UNWRAPPED:
            first = inside[0].children[0] if inside[0].type == "arglist" else inside[0]
            if _keyword(first) == "":
                yield f"({first.get_code().strip()})"


class DropStatement(Rewriting):
    """A call whose value nobody uses, or an augmented assignment, -> `pass`; what is logged stays."""

    def replacements(self, node: NodeOrLeaf) -> Iterator[str]:
        if node.type != "simple_stmt":
            return
        statement = node.children[0]
        sign = statement.children[1] if statement.type == "expr_stmt" else None
        is_augmented = sign is not None and sign.type == "operator" and sign.value != "="
        if statement.type == "atom_expr" or is_augmented:
            yield "pass\n"


class OtherConstant(Rewriting):
    """A float a tenth smaller or larger; a word (`"KIND_CPU"`) that is another word, unless it is an error's text."""

    def replacements(self, node: NodeOrLeaf) -> Iterator[str]:
        if node.type == "number" and ("." in node.value or "e" in node.value.lower()) and "x" not in node.value:
            value = float(node.value.replace("_", ""))
            yield from (repr(value * 0.9), repr(value * 1.1)) if value else ()
        elif (
            node.type == "string"
            and _WORD.fullmatch(node.value)
            and node.value != '"utf-8"'
            and not _is_only_told(node)
        ):
            yield f"{node.value[:-1]}_{node.value[-1]}"


def _is_only_told(node: NodeOrLeaf) -> bool:
    while node.parent is not None and node.parent.type != "simple_stmt":
        node = node.parent
        if node.type in ("funcdef", "classdef", "suite", "file_input"):
            return False
    code = node.get_code().lstrip()
    return code.startswith(("raise", "__all__", '"', "'"))


_OWN = (SwapNeighbours, Opposite, DropCall, DropStatement, OtherConstant)


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        module: Path of the module, relative to the repository.
        operator: Name of the operator.
        occurrence: Which of the operator's places in the module.
        line: Line that changes, from 1.
        column: Column of the change, from 0.
    """

    module: str
    operator: str
    occurrence: int
    line: int
    column: int

    def apply(self, source: str) -> str | None:
        """The module's changed source, or None where the change is not Python."""
        try:
            changed = mutate_code(source, operators()[self.operator], self.occurrence)
            return None if changed is None or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)) else changed
        except (SyntaxError, AttributeError):  # Cosmic Ray does not know `except (*A, B)`
            return None


def operators() -> dict[str, Operator]:
    """Every operator by its name."""
    core = OperatorProvider()
    named = {name: core[name] for name in _CORE} | {operator.__name__: operator for operator in _OWN}
    return {name: operator() for name, operator in named.items()}


def mutants_of(module: str, source: str) -> dict[tuple[int, int], list[Mutant]]:
    """All mutants of a module by the place that they change; annotations and docstrings are left alone."""
    silent = _silent(source)
    found: dict[tuple[int, int], list[Mutant]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    made = operators()
    for node in ast_nodes(parso.parse(source)):
        is_sign = node.type == "operator" and node.parent.type in ("parameters", "lambdef")  # `*` and `/`
        for name, operator in made.items():
            for start, _ in operator.mutation_positions(node):
                if not is_sign and not any(first <= start < last for first, last in silent):
                    found[start].append(Mutant(module, name, counts[name], *start))
                counts[name] += 1
    return dict(found)


def _silent(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where nothing is decided: annotations, imports for types alone, log lines; `frozen` is mypy's to check."""
    places = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = [node.returns]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            parts = [node]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("cast", "TypeVar"):
            parts = [*node.args[:1]]
        elif isinstance(node, ast.keyword) and node.arg in ("frozen", "repr", "encoding"):
            parts = [node.value]
        elif isinstance(node, ast.Expr) and _LOGGED.match(ast.unparse(node)):
            parts = [node]
        places += [
            ((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0))
            for part in parts
            if part is not None
        ]
    return places
