"""Cooldowns that the processes of one database share.

Failures are counted in each process; a cooldown that one opens is written to the table
`cooldowns`, and the others read what changed with each refresh. A half-open scope is probed by the
process that leases it with one statement.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import Connection, and_, case, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from understudy.errors import ErrorClass, StorageError
from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown import Cooldown, CooldownBoard
from understudy.routing.failure_policy import RULES
from understudy.routing.monitoring import PollRights
from understudy.storage.coordination import Coordinator
from understudy.storage.database import Database
from understudy.storage.roles import Role, holding
from understudy.storage.shared_tables import cooldowns

_log = structlog.get_logger()
_PROBE_S = 20.0
"""How long a process may take for a probe before another gets it."""
_UNUSED_S = 3.0
"""How long a granted probe waits for a request to begin it."""
_OVERLAP_S = 5.0
"""A transaction may commit after a later one: each refresh reads this much again."""
_KEPT_S = 3600.0
_RETRY_S = 1.0


class SharedCooldowns:
    """The `CooldownSharing` of a board. Opened with `share_cooldowns`.

    Cooldowns that only the operator can end (keys, credit, model names) are not taken over from
    before this process started: its configuration may be the one that ends them.
    """

    def __init__(
        self,
        database: Database,
        coordinator: Coordinator,
        board: CooldownBoard,
        keys: Callable[[], Iterable[ScopeKey]],
        monotonic: Callable[[], float],
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._board = board
        self._keys = keys
        self._monotonic = monotonic
        self._opened: dict[ScopeKey, Cooldown] = {}
        self._closed: set[ScopeKey] = set()
        self._released: set[ScopeKey] = set()
        self._asked: set[ScopeKey] = set()
        self._granted: dict[ScopeKey, float] = {}
        self._probing: set[ScopeKey] = set()
        self._renewed: dict[ScopeKey, float] = {}
        self._changed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._started_at = coordinator.clock.now()
        self._read_until = 0.0
        self._read_for: frozenset[ScopeKey] = frozenset()
        self._applied: dict[str, float] = {}
        self._touched: set[ScopeKey] = set()
        """Changed here since the last refresh began, or not published by then."""

    def opened(self, cooldown: Cooldown) -> None:
        self._end_probe(cooldown.key)
        self._touched.add(cooldown.key)
        self._closed.discard(cooldown.key)
        self._opened[cooldown.key] = cooldown
        self._changed.set()

    def closed(self, keys: Iterable[ScopeKey]) -> None:
        for key in keys:
            self._end_probe(key)
            self._touched.add(key)
            self._opened.pop(key, None)
            self._closed.add(key)
        self._changed.set()

    def released(self, keys: Iterable[ScopeKey]) -> None:
        for key in keys:
            if self._end_probe(key):
                self._released.add(key)
                self._changed.set()

    def probing(self, keys: Iterable[ScopeKey], until: float) -> None:
        for key in set(keys) & self._granted.keys():
            self._probing.add(key)
            if until > self._granted[key]:
                self._granted[key] = self._renewed[key] = until
                self._changed.set()

    def may_probe(self, key: ScopeKey) -> bool:
        if self._granted.get(key, 0.0) > self._monotonic():
            return True
        self._asked.add(key)
        self._changed.set()
        return False

    async def refresh(self) -> None:
        """Apply what other processes published. Raises StorageError."""
        keys = frozenset(self._keys())
        self._touched = self._opened.keys() | self._closed
        # A scope that a new configuration has added may be in a cooldown for long already.
        since = 0.0 if keys - self._read_for else self._read_until - _OVERLAP_S
        query = select(cooldowns).where(
            cooldowns.c.changed_at > since, cooldowns.c.owner != self._coordinator.id
        )
        rows = await self._database.read(lambda on: on.execute(query).mappings().all())
        known = {scope_digest(key): key for key in keys} if rows else {}
        now = self._coordinator.clock.now()
        for row in rows:
            key, changed_at = known.get(row["scope"]), float(row["changed_at"])
            # What this process publishes replaces the row; if not, the next refresh reads it.
            if key is None or key in self._touched or self._applied.get(row["scope"]) == changed_at:
                continue
            self._applied[row["scope"]] = changed_at
            self._apply(key, row["until"], ErrorClass(row["cause"]), changed_at)
        self._read_until, self._read_for = now, keys

    def _apply(self, key: ScopeKey, until: float, cause: ErrorClass, changed_at: float) -> None:
        """`until` and `changed_at` by the database's clock."""
        self._end_probe(key)
        if until == 0.0:
            self._board.close(key)
        elif changed_at >= self._started_at or not RULES[cause].alerts:
            # Also one that has run out: until a probe succeeds, it is half-open everywhere.
            here = until - self._coordinator.clock.now() + self._monotonic()
            self._board.restore(Cooldown(key, here, cause))

    def _end_probe(self, key: ScopeKey) -> bool:
        """Whether this process had the probe of this scope."""
        self._probing.discard(key)
        self._renewed.pop(key, None)
        return self._granted.pop(key, None) is not None

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.publish()
            except StorageError as error:
                _log.warning("storage.refused", error=str(error), again_in_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)
                self._changed.set()

    async def publish(self) -> None:
        """Write what changed here, and ask for probes. Raises StorageError; nothing is lost."""
        async with self._publishing:
            await self._publish_changes()

    async def _publish_changes(self) -> None:
        opened, closed = dict(self._opened), frozenset(self._closed)
        released, asked = frozenset(self._released), tuple(self._asked)
        renewed, began = dict(self._renewed), self._monotonic()
        granted = await self._database.write(
            lambda on: self._publish(on, opened.values(), closed, released, renewed, asked)
        )
        for key, cooldown in opened.items():
            if self._opened.get(key) is cooldown:
                del self._opened[key]
        self._closed -= closed
        self._released -= released
        self._asked.difference_update(asked)
        for key, renewed_until in renewed.items():
            if self._renewed.get(key) == renewed_until:
                del self._renewed[key]
        # What changed during the transaction will end the lease.
        granted = [k for k in granted if k not in self._opened and k not in self._closed]
        # From before the transaction, so that it ends here no later than in the table.
        self._granted |= dict.fromkeys(granted, began + _PROBE_S)
        if granted:
            asyncio.get_running_loop().call_later(_UNUSED_S, self._give_back, granted)
        if opened or closed:
            self._coordinator.notify()

    def _give_back(self, granted: Sequence[ScopeKey]) -> None:
        """Release probes that no request has begun, so that another process may."""
        self.released([key for key in granted if key not in self._probing])

    def _publish(
        self,
        connection: Connection,
        opened: Iterable[Cooldown],
        closed: Iterable[ScopeKey],
        released: Iterable[ScopeKey],
        renewed: Mapping[ScopeKey, float],
        asked: Sequence[ScopeKey],
    ) -> list[ScopeKey]:
        now = self._coordinator.clock.now()
        for cooldown in sorted(opened, key=lambda one: one.key):
            self._write_opened(connection, cooldown, now)
        for key in sorted(closed):
            ended = {"until": 0.0, "leased_until": 0.0, "changed_at": now}
            row = cooldowns.c.scope == scope_digest(key)
            connection.execute(
                update(cooldowns).where(row).values(owner=self._coordinator.id, **ended)
            )
        for key in sorted(released):
            self._set_lease(connection, key, 0.0)
        for key, until in sorted(renewed.items()):
            self._set_lease(connection, key, until - self._monotonic() + now)
        return [key for key in sorted(asked) if self._lease(connection, key, now)]

    def _write_opened(self, connection: Connection, cooldown: Cooldown, now: float) -> None:
        row = {
            "scope": scope_digest(cooldown.key),
            "until": cooldown.until - self._monotonic() + now,
            "cause": cooldown.cause.value,
            "owner": self._coordinator.id,
            "leased_until": 0.0,
            "changed_at": now,
        }
        statement = insert(cooldowns).values(row)
        new = statement.excluded
        longer = case((cooldowns.c.until > new.until, cooldowns.c.until), else_=new.until)
        changes = {
            "until": longer,
            "cause": new.cause,
            "owner": new.owner,
            "leased_until": 0.0,
            "changed_at": now,
        }
        connection.execute(statement.on_conflict_do_update(index_elements=["scope"], set_=changes))

    def _set_lease(self, connection: Connection, key: ScopeKey, until: float) -> None:
        """Change the lease of a probe that this process has."""
        mine = and_(
            cooldowns.c.scope == scope_digest(key), cooldowns.c.owner == self._coordinator.id
        )
        connection.execute(update(cooldowns).where(mine).values(leased_until=until))

    def _lease(self, connection: Connection, key: ScopeKey, now: float) -> bool:
        """Whether this process may probe. A cooldown without a row, such as one of a file or one
        that was pruned, gets a row."""
        row = {
            "scope": scope_digest(key),
            "until": now,
            "cause": ErrorClass.INTERNAL.value,
            "owner": self._coordinator.id,
            "leased_until": now + _PROBE_S,
            "changed_at": now,
        }
        free = or_(cooldowns.c.leased_until <= now, cooldowns.c.owner == self._coordinator.id)
        statement = insert(cooldowns).values(row)
        leased = connection.execute(
            statement.on_conflict_do_update(
                index_elements=["scope"],
                set_={"owner": self._coordinator.id, "leased_until": now + _PROBE_S},
                where=and_(cooldowns.c.until <= now, free),
            ).returning(cooldowns.c.scope)
        )
        return leased.first() is not None

    async def prune(self) -> None:
        """Delete rows that ended long ago. Raises StorageError."""
        before = self._coordinator.clock.now() - _KEPT_S
        old = and_(cooldowns.c.until < before, cooldowns.c.changed_at < before)
        await self._database.write(lambda on: on.execute(delete(cooldowns).where(old)))


@asynccontextmanager
async def share_cooldowns(
    database: Database,
    coordinator: Coordinator,
    board: CooldownBoard,
    keys: Callable[[], Iterable[ScopeKey]],
    monotonic: Callable[[], float],
) -> AsyncGenerator[SharedCooldowns]:
    """Share the board until exit; cooldowns of others apply from the start."""
    shared = SharedCooldowns(database, coordinator, board, keys, monotonic)
    await shared.prune()
    await shared.refresh()
    board.sharing = shared
    coordinator.refreshers.append(shared.refresh)
    task = asyncio.create_task(shared.run(), name="publish cooldowns")
    try:
        yield shared
    finally:
        coordinator.refreshers.remove(shared.refresh)
        board.sharing = None
        task.cancel()
        await asyncio.wait({task})


def poll_rights(database: Database, coordinator: Coordinator) -> PollRights:
    """A role for each server, so that one process of all polls it while it is down."""

    @asynccontextmanager
    async def right(key: ScopeKey) -> AsyncGenerator[Role]:
        role = Role(f"polling-{scope_digest(key)}", database, coordinator)
        async with holding(role, coordinator):
            yield role

    return right


def scope_digest(key: ScopeKey) -> str:
    """Names a scope in the table; an endpoint may contain a password, so it is not readable."""
    name = "\0".join((key.scope.value, key.provider, key.name)).encode()
    return hashlib.blake2b(name, digest_size=16).hexdigest()
