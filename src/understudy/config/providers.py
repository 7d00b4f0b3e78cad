"""The `model` section: which servers there are, in which order they are tried, and their limits."""

from itertools import zip_longest
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, SecretStr

from understudy.config.base import Name, Names, Seconds, Section

Engine = Literal[
    "openrouter",
    "chutes",
    "nanogpt",
    "koboldcpp",
    "llama.cpp",
    "textgen-webui",
    "openai",
    "builtin",
]


class Deadline(Section):
    commit_seconds: Seconds = 45
    """From the accepted request to the first visible text, over all attempts."""
    total_seconds: Seconds = 180
    """From the accepted request to the end of the reply."""


KeyNames = Name | Annotated[tuple[Name, ...], Field(min_length=1)] | None


class Server(Section):
    """What may be said of any model server."""

    enabled: bool = True
    base_url: str | None = None
    """`None` is the engine's own address, where it has one. With or without `/v1`; both work."""
    name: Name | None = None
    """The model; engines that serve just one need none."""
    fallbacks: Names = ()
    api_key: SecretStr | Annotated[tuple[SecretStr, ...], Field(min_length=1)] | None = None
    """The key itself, or several. Loading fills it from `api_key_env` where the file has none."""
    api_key_env: KeyNames = None
    """Where keys were looked for; `None` once loaded when the file itself gives the key."""
    timeout_seconds: Seconds | None = None
    """First-token budget: give up on this server when no useful token has come by then."""
    connect_timeout_seconds: Seconds | None = None
    idle_timeout_seconds: Seconds | None = None
    total_timeout_seconds: Seconds | None = None
    queue_timeout_seconds: Seconds = 2
    strict_timeout: bool = False
    """Hold to `timeout_seconds` even as the last candidate."""
    reasoning: bool = False
    """The model thinks before it speaks: gives it 45 s to the first token instead of 20."""
    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    queue_length: Annotated[int, Field(ge=1)] | None = None
    """How many replies may wait for their turn; past it the next server is asked at once."""
    context_length: Annotated[int, Field(ge=256)] | None = None
    vision: Literal["auto"] | bool = "auto"
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    extra_headers: dict[str, str] = {}
    extra_body: dict[str, JsonValue] = {}

    @property
    def secret(self) -> str | None:
        """Its key; the first of several."""
        keys = self.api_key if isinstance(self.api_key, tuple) else (self.api_key,)
        return None if keys[0] is None else keys[0].get_secret_value()

    def each_key(self) -> tuple[Self, ...]:
        """A copy for each of several keys, else itself."""
        if not isinstance(self.api_key, tuple):
            return (self,)
        names = self.api_key_env if isinstance(self.api_key_env, tuple) else ()
        return tuple(
            self.model_copy(update={"api_key": key, "api_key_env": name})
            for key, name in zip_longest(self.api_key, names)
        )

    @property
    def answers_in_one_piece(self) -> bool:
        """Whether it cannot stream, so that its first token is its whole answer."""
        return getattr(self, "mode", "") == "plain_generate"


class OpenRouterServer(Server):
    name: Name | None = "meta-llama/llama-4-scout:free"
    fallbacks: Names = ("meta-llama/llama-3.3-8b-instruct:free", "openrouter/free")
    api_key_env: KeyNames = "OPENROUTER_API_KEY"
    allow_auto_fallback: bool = False
    provider: dict[str, JsonValue] = {}
    """OpenRouter's provider preferences, sent unchanged."""


class ChutesServer(Server):
    enabled: bool = False
    api_key_env: KeyNames = "CHUTES_API_KEY"


class NanoGptServer(Server):
    enabled: bool = False
    api_key_env: KeyNames = "NANOGPT_API_KEY"
    auth: Literal["bearer", "x-api-key", "none"] = "bearer"
    mode: Literal["openai_chat", "openai_completions", "plain_generate"] = "openai_chat"


class OwnModel(Section):
    """What `engine: builtin` takes: a model that the bot loads itself."""

    model: Name = "smollm2-135m"
    """A name of `understudy models list`, `hf:owner/repository/file.gguf`, or a path."""
    mmproj: str | None = None
    """The image encoder; models of the catalogue that see bring theirs."""
    threads: Annotated[int, Field(ge=1)] | None = None
    gpu_layers: Annotated[int, Field(ge=0)] | None = None
    """`None` is as many as fit."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 2
    """Replies at once; each has the whole `context_length`, and takes its memory."""
    memory_limit_mb: Annotated[int, Field(ge=64)] | None = None
    idle_unload_minutes: Annotated[float, Field(gt=0)] | None = None
    preload: bool = False


class LocalServer(OwnModel, Server):
    enabled: bool = False
    engine: Literal["koboldcpp", "llama.cpp", "textgen-webui", "builtin"] = "koboldcpp"
    base_url: str | None = "http://127.0.0.1:5001"
    timeout_seconds: Seconds | None = 8
    max_tokens: Annotated[int, Field(ge=1)] | None = 300
    temperature: Annotated[float, Field(ge=0, le=5)] | None = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 0.9
    chat_template: str | None = None
    """For koboldcpp too old for its chat endpoint: the name of a built-in chat template."""


class NamedServer(OwnModel, Server):
    engine: Engine = "openai"
    preset: str | None = None
    """For `engine: openai`: a row of known servers, such as `ollama` or `groq`."""
    provider: dict[str, JsonValue] = {}
    auth: Literal["bearer", "x-api-key", "none"] = "bearer"
    mode: Literal["openai_chat", "openai_completions", "plain_generate"] = "openai_chat"
    chat_template: str | None = None


class ModelSettings(Section):
    provider_order: Names = ("openrouter", "local", "auto")
    orders: dict[Name, Names] = {}
    """Further orders, by name: of providers and provider/models."""
    openrouter: OpenRouterServer = OpenRouterServer()
    chutes: ChutesServer = ChutesServer()
    nanogpt: NanoGptServer = NanoGptServer()
    local: LocalServer = LocalServer()
    servers: dict[str, NamedServer] = {}
    deadline: Deadline = Deadline()
    on_content_policy: Literal["stop", "next"] = "stop"
    keep_partial_chars: Annotated[int, Field(ge=0)] = 600
    """A reply that breaks off after a whole sentence and at least so much text stays as it is,
    instead of starting again; 0 always starts again."""
    max_attempts: Annotated[int, Field(ge=1)] | None = None
    """Per reply; `None` is the number of candidates and two more."""
