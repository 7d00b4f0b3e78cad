"""Chat → one prompt text, for servers that know no roles. Rows of data, chosen by name."""

import re
from dataclasses import dataclass
from functools import cache

from understudy.errors import ConfigError
from understudy.llm.messages import Message
from understudy.llm.openai_wire import text_of

# `<|im_end|>`, `</s>`, `[INST]`, and words before a colon: `### Instruction:`, `USER:`.
_MARKER = re.compile(r"<[^<>\s]+>|\[/?[A-Z]+\]|[#A-Za-z][#A-Za-z ]*:")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """What surrounds each turn; `opening` asks for the reply."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    stops: tuple[str, ...]
    """Where the model would start to speak for someone else."""

    @property
    def opening(self) -> str:
        return self.assistant[0].rstrip(" ")

    def prompt(self, messages: tuple[Message, ...]) -> str:
        around = {"system": self.system, "user": self.user, "assistant": self.assistant}
        turns = ""
        for message in messages:
            before, after = around.get(message.role, self.user)
            turns += f"{before}{self.without_markers(text_of(message))}{after}"
        return turns + self.opening

    def without_markers(self, text: str) -> str:
        """The text with each marker of this template broken by a space: a message, a name or a
        card must not begin a turn."""
        return _markers(self).sub(lambda found: _broken(found[0]), text)


@cache
def _markers(template: ChatTemplate) -> re.Pattern[str]:
    parts = (*template.system, *template.user, *template.assistant, *template.stops)
    found = {marker for part in parts for marker in _MARKER.findall(part)}
    return re.compile("|".join(re.escape(marker) for marker in sorted(found, key=len)[::-1]))


def _broken(marker: str) -> str:
    """`User :` and `< |im_end|>`."""
    return f"{marker[:-1]} :" if marker.endswith(":") else f"{marker[0]} {marker[1:]}"


CHAT_TEMPLATES: dict[str, ChatTemplate] = {
    "plain": ChatTemplate(
        ("", "\n\n"), ("User: ", "\n"), ("Assistant: ", "\n"), ("\nUser:", "\nAssistant:")
    ),
    "alpaca": ChatTemplate(
        ("", "\n\n"),
        ("### Instruction:\n", "\n\n"),
        ("### Response:\n", "\n\n"),
        ("### Instruction:", "### Response:"),
    ),
    "vicuna": ChatTemplate(("", "\n\n"), ("USER: ", "\n"), ("ASSISTANT: ", "</s>\n"), ("USER:",)),
    "chatml": ChatTemplate(
        ("<|im_start|>system\n", "<|im_end|>\n"),
        ("<|im_start|>user\n", "<|im_end|>\n"),
        ("<|im_start|>assistant\n", "<|im_end|>\n"),
        ("<|im_end|>", "<|im_start|>"),
    ),
    "llama3": ChatTemplate(
        ("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
        ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
        ("<|eot_id|>", "<|start_header_id|>"),
    ),
    "mistral": ChatTemplate(
        ("[INST] ", " [/INST]"), ("[INST] ", " [/INST]"), ("", "</s>"), ("[INST]", "</s>")
    ),
    "gemma": ChatTemplate(
        ("<start_of_turn>user\n", "<end_of_turn>\n"),
        ("<start_of_turn>user\n", "<end_of_turn>\n"),
        ("<start_of_turn>model\n", "<end_of_turn>\n"),
        ("<end_of_turn>", "<start_of_turn>"),
    ),
}


def chat_template(name: str | None, default: str) -> ChatTemplate:
    """Return the template called `name`. Raises `ConfigError` that lists the known ones."""
    try:
        return CHAT_TEMPLATES[name or default]
    except KeyError:
        known = ", ".join(CHAT_TEMPLATES)
        raise ConfigError(f"chat_template {name!r} is not one of: {known}") from None
