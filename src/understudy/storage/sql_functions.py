"""Expressions that SQLite and PostgreSQL write differently."""

from sqlalchemy import BigInteger, ColumnElement, Compiled, Float, Integer, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class utc_day(GenericFunction[str]):  # noqa: N801 - named as in SQL
    """The day in UTC, as YYYY-MM-DD, of seconds since the epoch."""

    type = Text()
    inherit_cache = True


class text_position(GenericFunction[int]):  # noqa: N801
    """Where the second text begins in the first, counted from 1; 0 where it is absent."""

    type = Integer()
    inherit_cache = True


class whole(GenericFunction[int]):  # noqa: N801
    """A positive number without its fraction."""

    type = Integer()
    inherit_cache = True


class mean(GenericFunction[float]):  # noqa: N801
    """The average as a floating-point number."""

    type = Float()
    inherit_cache = True


class new_seq(GenericFunction[int]):  # noqa: N801
    """The number of a new row in `messages`."""

    type = BigInteger()
    inherit_cache = True


class new_seq_in(GenericFunction[int]):  # noqa: N801
    """The same under the lock of a channel, whose key is the argument. SQLite has one writer at a
    time, and needs no lock."""

    type = BigInteger()
    inherit_cache = True


_HIGHEST = "(SELECT coalesce(max(seq), 0) + 1 FROM messages)"
_TEMPLATES = {
    ("utc_day", "sqlite"): "date({0}, 'unixepoch')",
    ("utc_day", "postgresql"): "to_char(to_timestamp({0}) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    ("text_position", "sqlite"): "instr({0}, {1})",
    ("text_position", "postgresql"): "strpos({0}, {1})",
    ("whole", "sqlite"): "CAST({0} AS INTEGER)",
    ("whole", "postgresql"): "CAST(floor({0}) AS BIGINT)",
    ("new_seq", "sqlite"): _HIGHEST,
    ("new_seq", "postgresql"): "nextval('messages_seq_seq')",
    ("new_seq_in", "sqlite"): _HIGHEST,
    # The function in FROM yields its row once it holds the lock; only then is the number drawn.
    ("new_seq_in", "postgresql"): (
        "(SELECT nextval('messages_seq_seq') FROM pg_advisory_xact_lock({0}))"
    ),
    ("mean", "sqlite"): "avg({0})",
    ("mean", "postgresql"): "CAST(avg({0}) AS DOUBLE PRECISION)",
}


@compiles(utc_day)
@compiles(text_position)
@compiles(whole)
@compiles(mean)
@compiles(new_seq)
@compiles(new_seq_in)
def _compile(element: GenericFunction[object], compiler: Compiled, **kw: object) -> str:
    arguments: list[ColumnElement[object]] = list(element.clauses)
    template = _TEMPLATES[element.name, compiler.dialect.name]
    # A parameter that the template leaves out must not be counted.
    used = [f"{{{place}}}" in template for place in range(len(arguments))]
    return template.format(
        *(
            compiler.process(argument, **kw) if is_used else ""
            for argument, is_used in zip(arguments, used, strict=True)
        )
    )
