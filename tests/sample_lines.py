"""Lines of a conversation for tests."""

from understudy.conversation.inbox import Line
from understudy.conversation.messages import Author

ANN = Author("1", "Ann")
BOT = Author("understudy", "Understudy", is_bot=True)


def line(seq: int, text: str, author: Author = ANN, position: int | None = None) -> Line:
    """One line of a person, or of the bot after the line at `position`."""
    role = "assistant" if author.is_bot else "user"
    at = 1_700_000_000 + 60.0 * seq
    return Line(seq, position or seq, role, f"m{seq}", author, text, at)  # type: ignore[arg-type]
