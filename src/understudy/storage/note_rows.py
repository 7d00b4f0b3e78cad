"""Notes and proposals of notes. Each function is part of the caller's transaction."""

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from understudy.memory.store import MAX_NOTES_CHARS, Note, NoteScope, Proposal, Source
from understudy.storage.statements import Statement
from understudy.storage.tables import messages, notes, opt_outs, proposals

_NOTES = Statement(
    select(notes)
    .where(
        notes.c.platform == bindparam("platform"),
        notes.c.scope == bindparam("server"),
        notes.c.author_id == bindparam("author_id"),
    )
    .order_by(notes.c.number)
)


def read_notes(
    connection: Connection, scopes: Sequence[NoteScope]
) -> dict[NoteScope, tuple[Note, ...]]:
    found: dict[NoteScope, tuple[Note, ...]] = {}
    for scope in scopes:
        wanted = {
            "platform": scope.platform,
            "server": scope.server,
            "author_id": scope.author_id,
        }
        rows = _NOTES.run(connection, wanted).mappings().all()
        if rows:
            found[scope] = tuple(Note(r["number"], r["text"], r["made_at"]) for r in rows)
    return found


def add_note(connection: Connection, scope: NoteScope, text: str, now: float) -> Note | None:
    """None where there is no room for it."""
    used, highest = _size(connection, scope)
    if used + len(text) > MAX_NOTES_CHARS:
        return None
    note = Note(highest + 1, text, now)
    row = _place(scope) | {"number": note.number, "text": text, "made_at": now}
    connection.execute(insert(notes).values(row))
    return note


def delete_note(connection: Connection, scope: NoteScope, number: int) -> bool:
    gone = delete(notes).where(_notes_in(scope), notes.c.number == number)
    return connection.execute(gone).rowcount == 1


def delete_notes_of_author(connection: Connection, platform: str, author_id: str) -> None:
    connection.execute(
        delete(notes).where(notes.c.platform == platform, notes.c.author_id == author_id)
    )


def add_proposal(connection: Connection, proposal: Proposal, sources: Sequence[Source]) -> bool:
    scope = proposal.scope
    is_out = select(opt_outs).where(
        opt_outs.c.platform == scope.platform, opt_outs.c.author_id == scope.author_id
    )
    if connection.execute(is_out).first() or not _are_stored(connection, sources):
        return False
    used, _ = _size(connection, scope)
    if used + len(proposal.text) > MAX_NOTES_CHARS:
        return False
    values = {
        "id": proposal.id,
        "text": proposal.text,
        "since_seq": min(source.seq for source in sources),
        "made_at": proposal.made_at,
        "expires_at": proposal.expires_at,
    }
    connection.execute(
        insert(proposals)
        .values(_place(scope) | values)
        .on_conflict_do_update(index_elements=["platform", "scope", "author_id"], set_=values)
    )
    return True


def read_proposal(connection: Connection, scope: NoteScope, now: float) -> Proposal | None:
    here = and_(
        proposals.c.platform == scope.platform,
        proposals.c.scope == scope.server,
        proposals.c.author_id == scope.author_id,
    )
    return _proposal(connection, and_(here, proposals.c.expires_at > now))


def take_proposal(
    connection: Connection, platform: str, author_id: str, proposal_id: str, now: float
) -> Proposal | None:
    wanted = and_(
        proposals.c.platform == platform,
        proposals.c.author_id == author_id,
        proposals.c.id == proposal_id,
    )
    found = _proposal(connection, and_(wanted, proposals.c.expires_at > now))
    taken = connection.execute(delete(proposals).where(wanted)).rowcount
    return found if taken else None


def drop_expired_proposals(connection: Connection, now: float) -> None:
    connection.execute(delete(proposals).where(proposals.c.expires_at <= now))


def drop_proposals_of_author(connection: Connection, platform: str, author_id: str) -> None:
    of_author = and_(proposals.c.platform == platform, proposals.c.author_id == author_id)
    connection.execute(delete(proposals).where(of_author))


def drop_proposals_from(connection: Connection, where: ColumnElement[bool]) -> None:
    """Drop what may be made of one of these messages."""
    source = exists().where(
        where,
        messages.c.role == "user",
        messages.c.platform == proposals.c.platform,
        messages.c.author_id == proposals.c.author_id,
        messages.c.seq >= proposals.c.since_seq,
    )
    connection.execute(delete(proposals).where(source))


def _size(connection: Connection, scope: NoteScope) -> tuple[int, int]:
    """Characters of the scope's notes, and the highest number among them."""
    size = select(
        func.coalesce(func.sum(func.length(notes.c.text)), 0),
        func.coalesce(func.max(notes.c.number), 0),
    )
    used, highest = connection.execute(size.where(_notes_in(scope))).one()
    return used, highest


def _are_stored(connection: Connection, sources: Sequence[Source]) -> bool:
    """Whether every source is stored as it was read."""
    chosen = select(messages.c.seq, messages.c.text).where(
        messages.c.seq.in_([source.seq for source in sources])
    )
    stored = {row.seq: row.text for row in connection.execute(chosen)}
    return bool(sources) and all(stored.get(source.seq) == source.text for source in sources)


def _proposal(connection: Connection, where: ColumnElement[bool]) -> Proposal | None:
    row = connection.execute(select(proposals).where(where)).mappings().first()
    if row is None:
        return None
    scope = NoteScope(row["platform"], row["scope"], row["author_id"])
    return Proposal(row["id"], scope, row["text"], row["made_at"], row["expires_at"])


def _place(scope: NoteScope) -> dict[str, object]:
    return {
        "platform": scope.platform,
        "scope": scope.server,
        "author_id": scope.author_id,
    }


def _notes_in(scope: NoteScope) -> ColumnElement[bool]:
    return and_(
        notes.c.platform == scope.platform,
        notes.c.scope == scope.server,
        notes.c.author_id == scope.author_id,
    )
