"""How many tokens a text is thought to cost, and how many a prompt may have."""

from understudy.routing.request import Fit, reserved_reply

_IMAGE_GRID_PX = 28
_IMAGE_LEAST, _IMAGE_MOST = 260, 4784
_IMAGE_SAFETY = 1.25
_IMAGE_FLAT = 1120
_PIXTRAL_GRID_PX = 16
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
    if fit.n_ctx is None:
        room = most
    else:
        left = fit.n_ctx - reserved_reply(fit.n_ctx, fit.reply_tokens)
        room = min(most, int(left * _MARGIN))
    return max(_LEAST_TOKENS, int(room * fit.shrink))


def image_tokens(width: int, height: int, model: str = "") -> int:
    """Tokens of an image, dearer rather than cheaper.

    One token per 28×28 px covers OpenAI's, Claude's, Gemini's and Qwen's ways of counting up to
    1024 px; Gemini 3 charges 1120 for the smallest; Pixtral counts 16×16 px; unknown models
    get a quarter more.
    """
    name = model.lower()
    if "pixtral" in name:
        return _grid(width, height, _PIXTRAL_GRID_PX)
    tokens = min(max(_grid(width, height, _IMAGE_GRID_PX) + 2, _IMAGE_LEAST), _IMAGE_MOST)
    if "gemini-3" in name:
        return max(tokens, _IMAGE_FLAT)
    known = any(family in name for family in ("claude", "gpt-", "gemini-", "qwen"))
    return tokens if known else int(tokens * _IMAGE_SAFETY)


def _grid(width: int, height: int, px: int) -> int:
    return -(-width // px) * -(-height // px)
