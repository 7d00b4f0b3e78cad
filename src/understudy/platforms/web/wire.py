"""What the page is told, as JSON-ready data: entries of a conversation and steps of a route."""

from collections.abc import Sequence

from understudy.conversation.delivery import ImageRef, Inbound
from understudy.conversation.inbox import Line, MessageState, Overview
from understudy.platforms.web.markdown import blocks
from understudy.routing.attempts import AttemptRecord, Outcome, describe_route

Json = dict[str, object]

_UNANSWERED = {MessageState.PENDING: "waiting", MessageState.FAILED: "failed"}


def step_of(attempt: AttemptRecord) -> Json | None:
    """One attempt as the page draws it, in the words of the route line; `None` for one that the
    route leaves out."""
    verdict, _, who = describe_route((attempt,)).partition(": ")
    if not verdict:
        return None
    label, _, figures = who.partition(", ") if attempt.outcome is Outcome.OK else (who, "", "")
    return {
        "outcome": attempt.outcome.value,
        "verdict": verdict,
        "label": label,
        "figures": figures,
        "model": attempt.model_served or attempt.model_requested,
    }


def steps_of(attempts: Sequence[AttemptRecord]) -> list[Json]:
    return [step for step in map(step_of, attempts) if step is not None]


def _images(images: Sequence[ImageRef]) -> list[Json]:
    return [{"digest": image.digest, "name": image.name} for image in images]


def asked_entry(inbound: Inbound) -> Json:
    """A person's message as it comes in."""
    return {
        "id": inbound.message_id,
        "kind": "user",
        "text": inbound.text,
        "at": inbound.sent_at,
        "state": "",
        "images": _images(inbound.images),
        "notes": list(inbound.notes),
    }


def line_entry(line: Line) -> Json:
    """A line of a conversation's memory."""
    if line.role == "user":
        return {
            "id": line.message_id,
            "kind": "user",
            "text": line.text,
            "at": line.at,
            "state": _UNANSWERED.get(line.state, ""),
            "images": _images(line.images),
            "notes": [],
        }
    attempts = line.record.attempts if line.record else ()
    return {
        "id": line.reply_id or line.message_id,
        "kind": "reply",
        "state": "partial" if line.record and line.record.outcome == "partial" else "done",
        "blocks": list(blocks(line.text)),
        "text": line.text,
        "steps": steps_of(attempts),
        "at": line.at,
        "notes": [],
    }


def overview_row(overview: Overview) -> Json:
    return {
        "id": overview.channel.id.rpartition("/")[2],
        "title": overview.title or "New conversation",
        "at": overview.last_at,
    }
