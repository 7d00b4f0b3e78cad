"""Statements that run for every message: compiled once, and passed to the driver directly.

SQLAlchemy takes longer to process the parameters and the results of a statement than SQLite takes
to run it. Here it compiles each statement once for each dialect; values reach the driver as they
are, so they have to be of types that the driver knows.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect
from sqlalchemy.sql.compiler import SQLCompiler

_PARAMETER = re.compile(r"%\((\w+)\)s")

Values = Mapping[str, object]
InOrder = Callable[[Values], tuple[object, ...]]


class Statement:
    """One statement. `columns` names the parameters of an INSERT or UPDATE without values."""

    def __init__(self, element: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._element = element
        self._columns = columns
        self._compiled: dict[str, tuple[str, InOrder]] = {}

    def run(self, connection: Connection, values: Values) -> CursorResult[*tuple[object, ...]]:
        """Execute with these values; parameters that the statement does not have are ignored."""
        dialect = connection.dialect
        found = self._compiled.get(dialect.name)
        if found is None:
            found = self._compiled[dialect.name] = self._compile(dialect)
        text, in_order = found
        return connection.exec_driver_sql(text, in_order(values))

    def _compile(self, dialect: Dialect) -> tuple[str, InOrder]:
        compiled = self._element.compile(dialect=dialect, column_keys=self._columns)
        assert isinstance(compiled, SQLCompiler)
        text, names = positional(compiled)
        constant = {name: value for name, value in compiled.params.items() if value is not None}
        return text, _picker(names, constant)


def positional(compiled: SQLCompiler) -> tuple[str, Sequence[str]]:
    """The SQL with positional parameters, and their names in order."""
    if compiled.positiontup is not None:
        return compiled.string, tuple(compiled.positiontup)
    text = _PARAMETER.sub("%s", compiled.string)
    return text, tuple(_PARAMETER.findall(compiled.string))


def _picker(names: Sequence[str], constant: Values) -> InOrder:
    if not names:
        return lambda _: ()
    if not constant and len(names) > 1:
        return operator.itemgetter(*names)
    return lambda values: tuple(
        values[name] if name in values else constant[name] for name in names
    )
