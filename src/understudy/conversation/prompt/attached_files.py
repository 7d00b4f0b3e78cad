"""Attached files in prompts: whole where their message is answered, else the beginning."""

from understudy.conversation.messages import AttachedText
from understudy.conversation.speakers import safe_name

_EXCERPT_CHARS = 300


def shown_file(file: AttachedText, current: bool) -> str:  # noqa: FBT001 - as the prompt builder asks
    """One file; `current`: its message is being answered."""
    if file.spoken and (current or len(file.text) <= _EXCERPT_CHARS):
        return f"[voice message, transcribed by a program: {file.text or 'nothing is said'}]"
    name = "voice message" if file.spoken else safe_name(file.name)
    if not file.text:
        return f'[file "{name}", which was not read]'
    if current:
        return f'[file "{name}"]\n{file.text}\n[end of file "{name}"]'
    excerpt = " ".join(file.text[: 2 * _EXCERPT_CHARS].split())
    if len(excerpt) > _EXCERPT_CHARS or len(file.text) > 2 * _EXCERPT_CHARS:
        excerpt = f"{excerpt[:_EXCERPT_CHARS].rstrip()}…"
    return f'[file "{name}", its beginning: {excerpt}]'
