"""Check the SQL files of the store with PostgreSQL's own parser.

An operation's file holds one statement. Its header says which promise the statement keeps and, after "Expects:", which
indexes it relies on; these must exist in the migrations. Its outermost statement names its columns, because they are
decoded by position. Every operation has its file and every file its operation.
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys
from collections.abc import Callable, Iterator

from pglast import ast as nodes
from pglast import parser
from pglast.visitors import Visitor

from procrastinate.store.postgres import completed

ROOT = pathlib.Path(__file__).resolve().parent.parent
STORE = ROOT / "src" / "procrastinate" / "store"
MAX_LINE_LENGTH = 120
LINE_FEED = "\n"
MIGRATION_NAME = re.compile(r"\d\d\.\d\d\.\d\d_\d\d_(pre|post)_[a-z0-9_]+\.sql")
OUR_NAME = re.compile(r"\b(?:idx_)?procrastinate_\w+")


def main() -> int:
    migrations = sorted(STORE.glob("sql/migrations/*.sql"))
    definitions = [*migrations, *sorted(STORE.glob("sql/takeover/*.sql"))]
    operations = sorted(set(STORE.glob("sql/*.sql")) - set(definitions))
    known_names = set(OUR_NAME.findall("".join(path.read_text() for path in migrations)))

    faults = check_pairs({path.stem for path in operations}, declared_operations(STORE))
    for path in [*operations, *definitions]:
        text = path.read_text()
        found = check_operation(text, known_names) if path in operations else check_definitions(text)
        faults += [f"{path.relative_to(ROOT)}:{fault}" for fault in (*check_text(text), *found)]
    for path in sorted(STORE.glob("sql/parts/*.sql")):
        faults += [f"{path.relative_to(ROOT)}:{fault}" for fault in check_text(path.read_text())]
    for path in migrations:
        if not MIGRATION_NAME.fullmatch(path.name):
            faults.append(f"{path.relative_to(ROOT)}:1: name it like 04.00.00_01_pre_what.sql")

    print("".join(f"{fault}\n" for fault in faults), end="")
    print(f"SQL: {len(operations)} operations, {len(migrations)} migrations, {len(faults)} faults")
    return int(bool(faults))


def check_text(text: str) -> Iterator[str]:
    """Check what needs no parser."""
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield f"{number}: trailing white space"
        if "\t" in line:
            yield f"{number}: tab"
        if len(line) > MAX_LINE_LENGTH:
            yield f"{number}: longer than {MAX_LINE_LENGTH} characters"
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield f"{text.count(LINE_FEED)}: the file must end with one line feed"


def check_operation(text: str, known_names: set[str]) -> Iterator[str]:
    """Check one operation's file against the house rules, with each of its parts if it has any."""
    yield from check_header(text, known_names)
    gap = re.search(r"^ *-- part: (.+)$", text, re.MULTILINE)
    if gap is None:
        yield from check_statement(text)
        return
    parts = sorted(STORE.glob(f"sql/parts/{gap[1]}.sql"))
    if not parts:
        yield f"1: there is no part {gap[1]}"
    for path in parts:
        for fault in check_statement(completed(text, path.read_text())):
            yield f"{fault} (with {path.name})"


def check_statement(text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(r"%(?!\(\w+\)s|%)", line.replace("%%", "")):
            yield f"{number}: a percent sign of its own must be doubled"
    plain = substitute_placeholders(text)
    yield from check_keywords(plain)
    try:
        statements = parser.parse_sql(plain)
    except parser.ParseError as error:
        yield describe(error, plain)
        return
    if len(statements) != 1 or text.rstrip().endswith(";"):
        yield "1: one statement, without a semicolon"
    for statement in statements:
        if any(is_star(column) for column in answer_columns(statement.stmt)):
            yield "1: name the columns of the answer: they are decoded by position"
        for name in unread_ctes(statement):
            yield f"1: {name} reads, but nobody reads it: PostgreSQL will not run it"


def check_header(text: str, known_names: set[str]) -> Iterator[str]:
    promise, expects, indexes = re.match(r"(?:--.*\n)*", text)[0].partition("-- Expects:")
    if not promise or not expects:
        yield '1: the header must say what the statement promises and, after "-- Expects:", which indexes it relies on'
    for name in OUR_NAME.findall(indexes):
        if name not in known_names:
            yield f"1: the header expects {name}, which no migration creates"


def check_definitions(text: str) -> Iterator[str]:
    """Check a file of definitions, with the bodies of its functions."""
    yield from check_keywords(text)
    try:
        statements = parser.parse_sql(text)
    except parser.ParseError as error:
        yield describe(error, text)
        return
    for statement in statements:
        if isinstance(statement.stmt, nodes.CreateFunctionStmt):
            start = statement.stmt_location
            source = text[start : start + statement.stmt_len] if statement.stmt_len else text[start:]
            for fault in check_function(statement.stmt, source):
                yield f"{text.count(LINE_FEED, 0, start) + 1}: {fault}"


def check_function(function: nodes.CreateFunctionStmt, source: str) -> Iterator[str]:
    options = {option.defname: option.arg for option in function.options}
    language = options["language"].sval
    parse: Callable[[str], object] = {
        "plpgsql": lambda _: parser.parse_plpgsql_json(source),
        "sql": parser.parse_sql,
    }.get(language, lambda _: None)
    body = options["as"][0].sval
    try:
        parse(body)
    except parser.ParseError as error:
        yield f"in {function.funcname[-1].sval}: {error.args[0]}"
    for fault in check_keywords(body):
        yield f"in {function.funcname[-1].sval}, line {fault}"


def check_keywords(text: str) -> Iterator[str]:
    """Key words are written in lower case."""
    encoded = text.encode()
    for token in parser.scan(text):
        word = encoded[token.start : token.end + 1].decode()
        if token.kind != "NO_KEYWORD" and word != word.lower():
            yield f"{encoded.count(LINE_FEED.encode(), 0, token.start) + 1}: write {word} in lower case"


def substitute_placeholders(text: str) -> str:
    """Turn psycopg's `%(name)s` and `%%` into what PostgreSQL's parser reads: `$1` and `%`."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}"

    return re.sub(r"%\((\w+)\)s", number, text).replace("%%", "%")


def answer_columns(statement: nodes.Node) -> list[nodes.ResTarget]:
    """Return the columns that the outermost statement answers with; of a union, those of both sides."""
    if isinstance(statement, nodes.SelectStmt) and statement.larg is not None:
        return [*answer_columns(statement.larg), *answer_columns(statement.rarg)]
    if isinstance(statement, nodes.SelectStmt):
        return list(statement.targetList or ())
    returning = getattr(statement, "returningClause", None) or getattr(statement, "returningList", None)
    return list(getattr(returning, "exprs", returning) or ())


def is_star(column: nodes.ResTarget) -> bool:
    return isinstance(column.val, nodes.ColumnRef) and isinstance(column.val.fields[-1], nodes.A_Star)


def unread_ctes(statement: nodes.RawStmt) -> list[str]:
    """Return the reading CTEs that nothing refers to. Writing ones run in any case."""
    names = CollectNames()
    names(statement)
    return sorted(names.reading - names.read)


class CollectNames(Visitor):
    """Collects the names of CTEs that only read, and those of all relations that are read. Pglast calls its methods."""

    def __init__(self) -> None:
        self.reading: set[str] = set()
        self.read: set[str] = set()

    def visit_CommonTableExpr(self, ancestors: object, node: nodes.CommonTableExpr) -> None:  # noqa: N802
        if isinstance(node.ctequery, nodes.SelectStmt):
            self.reading.add(node.ctename)

    def visit_RangeVar(self, ancestors: object, node: nodes.RangeVar) -> None:  # noqa: N802
        self.read.add(node.relname)


def describe(error: parser.ParseError, text: str) -> str:
    """Return a parser's error with its line number."""
    message, *location = error.args
    return f"{text.count(LINE_FEED, 0, location[0]) + 1 if location else 1}: {message}"


def declared_operations(folder: pathlib.Path) -> set[str]:
    """Return the snake-case names of the operations that the modules of `folder` declare."""
    bases: dict[str, set[str]] = {}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {name.id for base in node.bases if isinstance(name := unsubscripted(base), ast.Name)}

    def is_operation(name: str) -> bool:
        return any(base == "Operation" or is_operation(base) for base in bases.get(name, ()))

    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        for name in bases
        if is_operation(name) and not name.startswith("_")
    }


def unsubscripted(expression: ast.expr) -> ast.expr:
    return expression.value if isinstance(expression, ast.Subscript) else expression


def check_pairs(files: set[str], operations: set[str]) -> list[str]:
    return [
        *(f"{name}.sql: no operation of this name" for name in sorted(files - operations)),
        *(f"{name}.sql: missing, there is an operation of this name" for name in sorted(operations - files)),
    ]


if __name__ == "__main__":
    sys.exit(main())
