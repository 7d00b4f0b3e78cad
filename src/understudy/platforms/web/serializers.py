"""JSON for the pages: entries of a conversation, steps of a route, rows of attempts."""

import re
from collections.abc import Sequence

from understudy.conversation.inbox import Line, MessageState, Overview
from understudy.conversation.messages import ImageRef, Inbound
from understudy.platforms.web.rendering import Renderer, Source, plain
from understudy.routing.records import (
    REPETITION,
    AttemptRecord,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
    describe_route,
)

Json = dict[str, object]

_MARKUP = re.compile(r"\*+|`+|~~|^\s*(?:#+|>|[-+])\s", re.MULTILINE)
_REPLY_STATES = {ReplyOutcome.PARTIAL: "partial", ReplyOutcome.CANCELLED: "stopped"}
_UNANSWERED = {MessageState.PENDING: "waiting", MessageState.FAILED: "failed"}


def step_of(attempt: AttemptRecord) -> Json | None:
    """One attempt in the words of the route line; `None` for one that the route leaves out."""
    verdict, _, who = describe_route((attempt,)).partition(": ")
    if not verdict:
        return None
    label, _, figures = who.partition(", ") if attempt.outcome is Outcome.OK else (who, "", "")
    return {
        # A reply that was cut is no plain success.
        "outcome": "cut" if REPETITION in attempt.degraded else attempt.outcome.value,
        "verdict": verdict,
        "label": label,
        "figures": figures,
        "model": attempt.model_served or attempt.model_requested,
    }


def steps_of(attempts: Sequence[AttemptRecord]) -> list[Json]:
    return [step for step in map(step_of, attempts) if step is not None]


def _images(images: Sequence[ImageRef]) -> list[Json]:
    return [{"digest": image.digest, "name": image.name} for image in images]


def page_id(message_id: str) -> str:
    """The id of a person's message on its page: without the browser in front."""
    return message_id.rpartition("/")[2]


def message_entry(inbound: Inbound, renderer: Renderer) -> Json:
    """A person's message that just arrived; a long one is shown plain until it is rendered."""
    return {
        "id": page_id(inbound.message_id),
        "kind": "user",
        "text": inbound.text,
        "blocks": list(renderer.blocks(Source(inbound.text)) or plain(inbound.text)),
        "at": inbound.sent_at,
        "state": "",
        "images": _images(inbound.images),
        "files": [file.name for file in inbound.files],
        "notes": list(inbound.notes),
    }


def stored_entry(line: Line, renderer: Renderer) -> Json:
    """A stored message or reply of a conversation."""
    if line.role == "user":
        return {
            "id": page_id(line.message_id),
            "kind": "user",
            "text": line.text,
            "blocks": list(renderer.blocks(Source(line.text)) or plain(line.text)),
            "at": line.at,
            "state": "stopped" if line.reply_id else _UNANSWERED.get(line.state, ""),
            "reply": line.reply_id,
            "images": _images(line.images),
            "files": [file.name for file in line.files],
            "notes": [],
        }
    attempts = line.record.attempts if line.record else ()
    return {
        "id": line.reply_id or line.message_id,
        "kind": "reply",
        "state": _REPLY_STATES.get(line.record.outcome, "done") if line.record else "done",
        "blocks": list(renderer.blocks(Source(line.text)) or plain(line.text)),
        "text": line.text,
        "steps": steps_of(attempts),
        "name": line.author.name,
        "versions": list(line.versions),
        "unfinished": is_unfinished(line.record),
        "thoughts": line.thoughts.text if line.thoughts else "",
        "thought_s": line.thoughts.seconds if line.thoughts else None,
        "answers": line.position != line.seq,
        "at": line.at,
        "total_ms": line.record.t_total_ms if line.record else 0,
        "notes": [],
    }


def is_unfinished(record: ReplyRecord | None) -> bool:
    """Whether a reply broke off, was stopped, or reached the limit of its tokens."""
    if record is None:
        return False
    if record.outcome in _REPLY_STATES:
        return True
    return record.winner is not None and record.winner.finish_reason == "length"


def overview_row(overview: Overview) -> Json:
    return {
        "id": overview.channel.id.rpartition("/")[2],
        "title": _MARKUP.sub("", overview.title).strip() or "New conversation",
        "at": overview.last_at,
    }


def attempt_row(attempt: AttemptRecord) -> Json:
    """One attempt with its figures, for the operator."""
    usage = attempt.usage
    return {
        "ts": attempt.ts,
        "reply": attempt.request_id,
        "attempt": attempt.attempt,
        "sink": attempt.sink,
        "provider": attempt.provider,
        "label": attempt.label,
        "model": attempt.model_served or attempt.model_requested,
        "role": attempt.role.value,
        "outcome": attempt.outcome.value,
        "verdict": (step_of(attempt) or {}).get("verdict", "off"),
        "error_class": attempt.error_class.value if attempt.error_class else None,
        "http_status": attempt.http_status,
        "phase": attempt.phase.value,
        "next": attempt.next.value,
        "queue_ms": attempt.t_queue_ms,
        "headers_ms": attempt.t_headers_ms,
        "first_ms": attempt.t_first_output_ms,
        "total_ms": attempt.t_total_ms,
        "budget_ms": attempt.budget_ms,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cost_usd": attempt.cost_usd,
        "maybe_billed": attempt.maybe_billed,
        "held_until": attempt.held_until,
        "hold_scope": attempt.breaker.scope.value if attempt.breaker else None,
    }


def reply_row(reply: ReplyRecord) -> Json:
    """One reply with its route; its attempts have rows of their own."""
    return {
        "ts": reply.ts,
        "reply": reply.request_id,
        "sink": reply.sink,
        "outcome": reply.outcome.value,
        "offline_reason": reply.offline_reason.value if reply.offline_reason else None,
        "route": describe_route(reply.attempts),
        "steps": steps_of(reply.attempts),
        "first_visible_ms": reply.t_first_visible_ms,
        "total_ms": reply.t_total_ms,
        "input_tokens": reply.usage.input_tokens if reply.usage else None,
        "output_tokens": reply.usage.output_tokens if reply.usage else None,
        "cost_usd": reply.cost_usd,
        "order": reply.order_name,
    }
