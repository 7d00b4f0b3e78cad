"""Which model servers do the bot's own work for a conversation: its own, the free ones first."""

from typing import TYPE_CHECKING

from understudy.conversation.orders import Order
from understudy.routing.candidates import Candidate

if TYPE_CHECKING:
    from understudy.app.bot import Bot


def free_first(bot: "Bot", own: Order) -> tuple[str, ...]:
    """The candidates of a conversation's order, those that cost nothing first.

    No other candidate is among them: an order may be what keeps a conversation from other servers.
    """
    candidates = bot.models.router.candidates
    if own is None:
        used = [c for c in candidates if not c.only_by_name]
    else:
        used = [c for name in own for c in candidates if c.answers_to(name)]
    ordered = sorted(used, key=lambda c: not _is_free(bot, c))
    return tuple(dict.fromkeys(candidate.name for candidate in ordered))


def _is_free(bot: "Bot", candidate: Candidate) -> bool:
    return candidate.local or bot.models.prices.is_free(
        candidate.provider, candidate.engine, candidate.model
    )
