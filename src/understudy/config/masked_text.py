"""The text of a configuration with each secret replaced by a numbered placeholder, and back."""

import re
import secrets as random_secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from understudy.config.load import parse_config
from understudy.config.masking import MASK, as_yaml, masked, secrets_of
from understudy.config.settings import Settings
from understudy.errors import ConfigError

_PLACEHOLDER = re.compile(r"\*{8}\[(\d{1,6})\]")
_VALUE = (
    r"""(?:"(?P<double>[^"\n]+)"|'(?P<single>[^'\n]+)'|(?P<plain>[^\s"',}\]{\[#][^,}\]#\n]*))"""
)
_NAMED = re.compile(
    r"(?:[\w-]*(?:api[_-]?key|token|secret|passw(?:or)?d|authorization|cookie)|\bkey)"
    rf"[\"']?[ \t]*:[ \t]*{_VALUE}",
    re.IGNORECASE,
)
"""Values of keys that are named like a secret, also in comments."""
_KEY_SHAPED = re.compile(
    r"\b(?:sk|pk|rk|cpk|hf|gsk|xai)[-_][A-Za-z0-9_\-.]{8,}|\bBearer\s+[^\s\"']+", re.IGNORECASE
)
_IN_URL = re.compile(
    r"://(?P<user>[^/\s@\"']+)@"
    r"|[?&][^=&\s\"']*(?:key|token|secret|passw)[^=&\s\"']*=(?P<query>[^&\s\"'}]+)",
    re.IGNORECASE,
)
_NO_SECRETS = ("null", "~", "true", "false", MASK)
_SHORTEST = 4


@dataclass(frozen=True, slots=True)
class MaskedText:
    text: str
    secrets: tuple[str, ...]
    """The first is what `********[1]` stands for."""


def mask_text(text: str, settings: Settings) -> MaskedText:
    """Replace the secrets of `settings` and whatever is named or shaped like a secret."""
    found: dict[str, int] = {}
    pieces, done = [], 0
    for start, end in _joined(sorted(_spans(text, settings))):
        number = found.setdefault(text[start:end], len(found) + 1)
        pieces += [text[done:start], f"{MASK}[{number}]"]
        done = end
    return MaskedText("".join([*pieces, text[done:]]), tuple(found))


def unmask_text(text: str, secrets: tuple[str, ...]) -> str:
    """Put the secrets back. Raises ConfigError for a placeholder that stands for none."""

    def secret(match: re.Match[str]) -> str:
        number = int(match[1])
        if not 1 <= number <= len(secrets):
            raise ConfigError(f"{match[0]} stands for no secret of the file; write the value.")
        return secrets[number - 1]

    return _PLACEHOLDER.sub(secret, text)


def reveals_secret(
    text: str, original: MaskedText, settings: Settings, env: Mapping[str, str]
) -> bool:
    """Whether a placeholder of `original` was moved to a setting whose value is shown.

    `settings` are those of `original`; `text` is that text, edited.
    """
    known = set(secrets_of(settings))
    marked = {one: f"s{random_secrets.token_hex(12)}" for one in original.secrets if one in known}
    stand_ins = tuple(marked.get(secret, secret) for secret in original.secrets)

    def count_shown(written: str) -> int:
        try:
            config = parse_config(unmask_text(written, stand_ins), env)
        except ConfigError:
            return 0
        shown = as_yaml(masked(config.settings))
        return sum(shown.count(mark) for mark in marked.values())

    # What is also an ordinary value of the file, as a weak password can be, was shown before.
    return count_shown(text) > count_shown(original.text)


def _spans(text: str, settings: Settings) -> Iterator[tuple[int, int]]:
    for secret in set(secrets_of(settings)):
        if len(secret) >= _SHORTEST:
            exact = rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])"
            yield from (match.span() for match in re.finditer(exact, text))
    yield from (match.span() for match in _KEY_SHAPED.finditer(text))
    for pattern in (_NAMED, _IN_URL):
        for match in pattern.finditer(text):
            name = match.lastgroup or ""
            value = match[name].rstrip()
            if value and value.lower() not in _NO_SECRETS:
                start = match.start(name)
                yield start, start + len(value)


def _joined(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Overlapping spans as one."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return iter(joined)
