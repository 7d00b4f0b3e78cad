"""What the bot's database tells of attempts, by the server and the question they were for."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from chaos.observations import numbers_in

Entry = tuple[str, int]
"""(server, number of the question)"""

_UNSEEN = (
    "connect_refused", "connect_timeout", "dns", "tls", "stale_connection", "first_token_timeout",
    "total_timeout", "pool_timeout", "queue_timeout", "cancelled",
)  # fmt: skip
"""How attempts end that may never have reached their server."""
_ATTEMPTS = f"""
SELECT a.provider, a.upstream_id, m.text,
       a.http_status IS NULL AND coalesce(a.error_class, 'cancelled') IN {_UNSEEN}
FROM attempts a
JOIN batches b ON b.reply_id = a.request_id
JOIN messages m ON m.batch_id = b.id AND m.role = 'user'
WHERE a.outcome != 'skipped'
"""
_RUNNING = """
SELECT m.text FROM batches b JOIN messages m ON m.batch_id = b.id AND m.role = 'user'
WHERE b.state = 'claimed'
"""


@dataclass(slots=True)
class LedgerCounts:
    sure: Counter[Entry] = field(default_factory=Counter)
    """Records of attempts that have certainly reached their server."""
    unsure: Counter[Entry] = field(default_factory=Counter)
    upstream: Counter[str] = field(default_factory=Counter)
    """How often each answer is recorded, by server and its id at that server."""

    def most(self, entry: Entry) -> int:
        return self.sure[entry] + self.unsure[entry]


def read_ledger(database: Path) -> LedgerCounts:
    ledger = LedgerCounts()
    for server, upstream, text, unsure in _rows(database, _ATTEMPTS):
        kept = ledger.unsure if unsure else ledger.sure
        kept[str(server), numbers_in(text)[-1]] += 1
        if upstream is not None:
            ledger.upstream[f"{server}/{upstream}"] += 1
    return ledger


def running_questions(database: Path) -> set[int]:
    """Whose replies the database holds for being made; of a dead process, those it died with."""
    return {numbers_in(text)[-1] for (text,) in _rows(database, _RUNNING)}


def pages(database: Path) -> int:
    ((count,),) = _rows(database, "PRAGMA page_count")
    return int(str(count))


def _rows(database: Path, query: str) -> Iterator[tuple[object, ...]]:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        yield from connection.execute(query).fetchall()
