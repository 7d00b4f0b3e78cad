"""Cooldowns that the processes of one database share.

Failures are counted in each process; a cooldown that one opens is written to the table
`cooldowns`, and the others read what changed with each refresh. A half-open scope is probed by the
process that leases it with one UPDATE.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import Connection, and_, case, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from understudy.errors import ErrorClass, StorageError
from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown import Cooldown, CooldownBoard
from understudy.routing.failure_policy import RULES
from understudy.storage.coordination import Coordinator
from understudy.storage.database import Database
from understudy.storage.tables import cooldowns

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
        self._changed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._started_at = coordinator.clock.now()
        self._read_until = 0.0
        self._applied: dict[str, float] = {}

    def opened(self, cooldown: Cooldown) -> None:
        self._closed.discard(cooldown.key)
        self._granted.pop(cooldown.key, None)
        self._probing.discard(cooldown.key)
        self._opened[cooldown.key] = cooldown
        self._changed.set()

    def closed(self, keys: Iterable[ScopeKey]) -> None:
        for key in keys:
            self._opened.pop(key, None)
            self._granted.pop(key, None)
            self._probing.discard(key)
            self._closed.add(key)
        self._changed.set()

    def released(self, keys: Iterable[ScopeKey]) -> None:
        for key in keys:
            self._probing.discard(key)
            if self._granted.pop(key, None) is not None:
                self._released.add(key)
                self._changed.set()

    def probing(self, keys: Iterable[ScopeKey]) -> None:
        self._probing |= set(keys) & self._granted.keys()

    def may_probe(self, key: ScopeKey) -> bool:
        if self._granted.get(key, 0.0) > self._monotonic():
            return True
        self._asked.add(key)
        self._changed.set()
        return False

    async def refresh(self) -> None:
        """Apply what other processes published. Raises StorageError."""
        since = self._read_until - _OVERLAP_S
        query = select(cooldowns).where(
            cooldowns.c.changed_at > since, cooldowns.c.owner != self._coordinator.id
        )
        rows = await self._database.read(lambda on: on.execute(query).mappings().all())
        known = {scope_digest(key): key for key in self._keys()} if rows else {}
        now, clock = self._coordinator.clock.now(), self._monotonic()
        for row in rows:
            key, changed_at = known.get(row["scope"]), float(row["changed_at"])
            if key is None or self._applied.get(row["scope"]) == changed_at:
                continue
            self._applied[row["scope"]] = changed_at
            if row["until"] == 0.0:
                self._board.close(key)
                continue
            cause, until = ErrorClass(row["cause"]), row["until"] - now + clock
            if until > clock and (changed_at >= self._started_at or not RULES[cause].alerts):
                self._board.restore(Cooldown(key, until, cause))
        self._read_until = now

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
        granted = await self._database.write(
            lambda on: self._publish(on, opened.values(), closed, released, asked)
        )
        for key, cooldown in opened.items():
            if self._opened.get(key) is cooldown:
                del self._opened[key]
        self._closed -= closed
        self._released -= released
        self._asked.difference_update(asked)
        until = self._monotonic() + _PROBE_S
        self._granted |= dict.fromkeys(granted, until)
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
            mine = and_(
                cooldowns.c.scope == scope_digest(key), cooldowns.c.owner == self._coordinator.id
            )
            connection.execute(update(cooldowns).where(mine).values(leased_until=0.0))
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

    def _lease(self, connection: Connection, key: ScopeKey, now: float) -> bool:
        """Whether this process may probe; also where no row knows of the cooldown."""
        digest = scope_digest(key)
        free = or_(cooldowns.c.leased_until <= now, cooldowns.c.owner == self._coordinator.id)
        leased = connection.execute(
            update(cooldowns)
            .where(cooldowns.c.scope == digest, cooldowns.c.until <= now, free)
            .values(owner=self._coordinator.id, leased_until=now + _PROBE_S)
            .returning(cooldowns.c.scope)
        )
        if leased.first() is not None:
            return True
        known = select(cooldowns.c.scope).where(cooldowns.c.scope == digest)
        return connection.execute(known).first() is None

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


def scope_digest(key: ScopeKey) -> str:
    """Names a scope in the table; an endpoint may contain a password, so it is not readable."""
    name = "\0".join((key.scope.value, key.provider, key.name)).encode()
    return hashlib.blake2b(name, digest_size=16).hexdigest()
