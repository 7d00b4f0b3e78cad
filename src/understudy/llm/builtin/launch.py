"""What the bot and the process of a built-in model tell each other, one JSON line each way."""

import msgspec

from understudy.errors import ErrorClass, ProviderError, leaf_of


class Launch(msgspec.Struct, frozen=True):
    """How to load one model; sent to the process's standard input, so that no other user of the
    machine can read the key from a list of processes."""

    model: str
    """The path of the GGUF file."""
    mmproj: str | None
    alias: str
    """The model's name in replies."""
    context: int
    """Tokens of each conversation."""
    parallel: int
    threads: int | None
    gpu_layers: int | None
    chat_template: str | None
    prompt_cache_mb: int
    temperature: float | None = None
    """Of requests that name none, as the penalty below."""
    repeat_penalty: float | None = None
    key: str = ""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """It listens."""

    url: str


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Why a model is not there."""

    error_class: ErrorClass
    text: str
    """One sentence for the operator."""

    def error(self, retry_after_s: float | None = None) -> ProviderError:
        """A new exception of this failure."""
        return leaf_of(self.error_class)(
            self.error_class, retry_after_s=retry_after_s, detail=self.text
        )


Report = Ready | Failure
"""Printed by the process once."""
