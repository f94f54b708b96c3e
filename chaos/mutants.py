"""Every small change of a file that may change what it does: mutmut's operators, and three of ours.

What cannot change behaviour is left out by rule: annotations, imports, docstrings, log lines, texts for
people, assertions, ``__slots__``, and options of a class that only protect it or save memory.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

_SQL = re.compile(r"\b(SELECT|UPDATE|INSERT|DELETE|WHERE|AND|OR|ORDER BY|VALUES|JOIN|LIMIT|WHEN)\b")
_SQL_SWAPS = (
    (r" >= ", " > "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" < ", " <= "),
    (r" AND ", " OR "),
    (r" OR ", " AND "),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" IS NULL", " IS NOT NULL"),
    (r" IS NOT NULL", " IS NULL"),
    (r"\bNOT (?!NULL)", ""),
    (r" DESC\b", ""),
    (r" SKIP LOCKED", ""),
    (r" FOR UPDATE( SKIP LOCKED)?", ""),
    (r" LIMIT [\w$?]+", ""),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
)
_SQL_NUMBER = re.compile(r"(?<![\w$.])\d+\b")
_IDLE_OPTIONS = {"frozen", "gc", "slots", "weakref", "help", "doc"}


@dataclass(frozen=True)
class Mutant:
    """One change of one place."""

    file: str
    line: int
    lines: range
    """Of the statement that it is in; for a parameter, of the function."""
    names: frozenset[str]
    """What the statement defines when an import runs it: it is tested where it is used."""
    module: cst.Module
    old: cst.CSTNode
    new: cst.CSTNode

    @cached_property
    def code(self) -> str:
        """The whole file with the change in it."""
        changed = self.module.deep_replace(self.old, self.new)
        assert isinstance(changed, cst.Module)
        return changed.code

    @cached_property
    def diff(self) -> str:
        """The lines that the change takes away and adds."""
        before, after = self.module.code.splitlines(), self.code.splitlines()
        changed = difflib.unified_diff(before, after, n=0, lineterm="")
        return "\n".join(line for line in changed if not line.startswith(("---", "+++", "@@")))

    def compiles(self) -> bool:
        """Whether it is Python, and not the same text as before."""
        try:
            compile(self.code, self.file, "exec")
        except SyntaxError:
            return False
        return self.code != self.module.code


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """All of one file's, in the order of the text."""
    wrapper = MetadataWrapper(cst.parse_module((root / file).read_text()))
    places = wrapper.resolve(PositionProvider)
    found: list[Mutant] = []
    for statement, node, called in _walk(wrapper.module, wrapper.module):
        place = places[_head(node)]
        whole = isinstance(statement, cst.SimpleStatementLine | cst.FunctionDef)
        around = places[statement] if whole else place
        found += [
            Mutant(
                file,
                place.start.line,
                range(around.start.line, around.end.line + 1),
                frozenset() if called else _defined(statement),
                wrapper.module,
                node,
                new,
            )
            for new in _changes(node)
        ]
    return found


def _walk(
    node: cst.CSTNode, statement: cst.CSTNode, *, called: bool = False
) -> Iterator[tuple[cst.CSTNode, cst.CSTNode, bool]]:
    """The nodes that may matter: the statement of each, it, and whether a function runs it."""
    if _is_idle(node):
        return
    if isinstance(node, cst.BaseStatement | cst.SimpleStatementLine):
        statement = node
    yield statement, node, called
    for child in node.children:
        yield from _walk(child, statement, called=called or isinstance(node, cst.FunctionDef))


def _changes(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind) and not (operator is operator_string and _is_text(node)):
            yield from operator(node)
    if isinstance(node, cst.If | cst.While):
        inner = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), inner))
    if isinstance(node, cst.Raise) or m.matches(node, m.Expr(m.Call() | m.Await())):
        yield cst.Pass()
    if isinstance(node, cst.SimpleString | cst.FormattedStringText) and _SQL.search(node.value):
        yield from _other_sql(node)


def _other_sql(node: cst.SimpleString | cst.FormattedStringText) -> Iterator[cst.CSTNode]:
    text = node.value
    for pattern, instead in _SQL_SWAPS:
        for hit in re.finditer(pattern, text):
            yield node.with_changes(value=text[: hit.start()] + instead + text[hit.end() :])
    for hit in _SQL_NUMBER.finditer(text):
        number = str(int(hit[0]) + 1)
        yield node.with_changes(value=text[: hit.start()] + number + text[hit.end() :])


def _is_text(node: cst.CSTNode) -> bool:
    """A sentence for people, or SQL: other letters in it prove nothing."""
    return isinstance(node, cst.SimpleString) and bool(re.search(r"\s", node.value))


_TEXT = m.SimpleString() | m.ConcatenatedString() | m.FormattedString()
_IDLE = (
    m.Annotation()
    | m.Import()
    | m.ImportFrom()
    | m.Assert()
    | m.Expr(_TEXT)
    | m.If(test=m.Name("TYPE_CHECKING"))
    | m.Assign(targets=[m.AssignTarget(m.Name("__slots__") | m.Name("__all__"))])
    | m.Expr(m.Call(m.Attribute(m.Name("_log"))))
    | m.Call(m.Name("cast") | m.Name("TypeVar") | m.Name("assert_never"))
    | m.Call(
        m.Name(value=m.MatchIfTrue(lambda name: name.endswith(("Error", "Warning")))),
        args=[m.Arg(_TEXT), m.ZeroOrMore()],
    )
    | m.Arg(keyword=m.Name("name"), value=_TEXT)
)


def _is_idle(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Arg) and node.keyword and node.keyword.value in _IDLE_OPTIONS:
        return True
    return m.matches(node, _IDLE)


def _head(node: cst.CSTNode) -> cst.CSTNode:
    """What of a compound statement stands on its first lines."""
    if isinstance(node, cst.If | cst.While):
        return node.test
    if isinstance(node, cst.Match):
        return node.subject
    if isinstance(node, cst.For):
        return node.iter
    return node


def _defined(statement: cst.CSTNode) -> frozenset[str]:
    if not isinstance(statement, cst.SimpleStatementLine):
        return frozenset()
    small = statement.body[0]
    targets: list[cst.BaseExpression] = []
    if isinstance(small, cst.Assign):
        targets = [one.target for one in small.targets]
    elif isinstance(small, cst.AnnAssign):
        targets = [small.target]
    return frozenset(one.value for one in targets if isinstance(one, cst.Name))
