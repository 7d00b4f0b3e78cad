"""How many tokens a text is thought to cost, and how many a prompt may have."""

from understudy.routing.request import Fit

MESSAGE_TOKENS = 6
"""What a chat template puts around one message, generously."""
IMAGE_TOKENS = 1100
"""One image of 1024 px at the dearest usual rate."""
_MARGIN = 0.95
_LEAST_TOKENS = 128


def text_tokens(text: str, tokens_per_char: float) -> int:
    """Tokens of a text, rounded up.

    Counted in UTF-8 bytes: tokenizers were made for English, and everything else costs them more
    tokens per character, about as it costs more bytes.
    """
    return -(-int(len(text.encode("utf-8", "replace")) * tokens_per_char * 1000) // 1000)


def prompt_budget(fit: Fit, most: int) -> int:
    """How many tokens the whole prompt may cost for this candidate."""
    room = most if fit.n_ctx is None else min(most, int((fit.n_ctx - fit.reply_tokens) * _MARGIN))
    return max(_LEAST_TOKENS, int(room * fit.shrink))
