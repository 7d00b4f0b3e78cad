"""The whole configuration as one frozen schema; what is not in it does not exist."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from understudy.config.base import Chance, Name, Names, Seconds, Section
from understudy.config.providers import ModelSettings


class Vision(Section):
    enabled: bool = False
    max_images: Annotated[int, Field(ge=1, le=16)] = 3
    scopes: frozenset[Literal["mentions", "replies", "general_chat", "batch"]] = frozenset(
        ("mentions", "replies", "general_chat", "batch")
    )
    max_bytes: Annotated[int, Field(ge=1024)] = 10_000_000
    max_pixels: Annotated[int, Field(ge=1024)] = 40_000_000
    long_edge: Annotated[int, Field(ge=64, le=4096)] = 1024
    allow_urls: bool = True
    allow_hosts: Names = ()
    """Hosts that may be fetched from although their addresses are not public."""
    fetch_timeout_seconds: Seconds = 10
    keep_days: Annotated[int, Field(ge=1)] = 7
    caption: bool = True


class Attachments(Section):
    enabled: bool = True
    max_files: Annotated[int, Field(ge=1, le=16)] = 4
    max_bytes: Annotated[int, Field(ge=1024, le=50_000_000)] = 5_000_000
    max_chars: Annotated[int, Field(ge=100, le=200_000)] = 20_000


class Speech(Section):
    order: Names = ()
    """Providers that transcribe voice messages, tried in turn."""
    model: Name = "whisper-1"
    max_bytes: Annotated[int, Field(ge=1024, le=50_000_000)] = 10_000_000
    timeout_seconds: Seconds = 30


class QuietHours(Section):
    start: str = ""
    end: str = ""
    timezone: str = "UTC"


class ConversationMode(Section):
    window_seconds: Annotated[float, Field(ge=0)] = 120
    max_messages: Annotated[int, Field(ge=0)] = 6


class Participation(Section):
    channels: Names = ()
    """Where the bot takes part unasked; elsewhere it answers only when it is addressed."""
    chance: Chance = 0.0
    channel_chance: dict[Name, Chance] = {}
    channel_orders: dict[Name, Name] = {}
    """By channel id: a name of `model.orders`."""
    role_orders: dict[Name, Name] = {}
    """By role id; the first one that a member has counts."""
    cooldown_seconds: Annotated[float, Field(ge=0)] = 60
    names: Names = ()
    conversation_mode: ConversationMode = ConversationMode()
    answer_bots: bool = False
    max_bot_replies: Annotated[int, Field(ge=1)] = 3
    quiet_hours: QuietHours = QuietHours()
    user_per_minute: Annotated[int, Field(ge=1)] = 10
    channel_per_minute: Annotated[int, Field(ge=1)] = 30


class Conversation(Section):
    persist: bool = True
    """False keeps only message ids."""
    history_days: Annotated[int, Field(ge=1)] = 30
    history_messages: Annotated[int, Field(ge=0)] = 60
    reply_chain: Annotated[int, Field(ge=0, le=20)] = 5
    """How many messages that are replied to in turn a prompt may hold."""
    read_back: Annotated[int, Field(ge=0, le=100)] = 0
    interval_seconds: Annotated[float, Field(ge=0)] = 5
    quiet_seconds: Seconds = 1.2
    long_chunk_quiet_seconds: Seconds = 2.5
    burst_cap_seconds: Seconds = 8
    parallel_replies: Annotated[int, Field(ge=1, le=16)] = 2
    late_answer_minutes: Annotated[float, Field(ge=0, le=55)] = 30
    max_prompt_tokens: Annotated[int, Field(ge=256)] = 6000
    """The most a prompt may cost, whatever the model could take."""
    fallback_marker: bool = False
    """A discreet mark on replies that did not come from the first candidate."""


class SummarySettings(Section):
    enabled: bool = True
    order: Name | None = None
    max_tokens: Annotated[int, Field(ge=50, le=4000)] = 400


class Memory(Section):
    summary: SummarySettings = SummarySettings()
    propose: bool = False
    recall: bool = False
    recall_tokens: Annotated[int, Field(ge=50, le=8000)] = 400


class Lore(Section):
    folder: str = "lorebooks"
    books: Names = ()
    by_channel: dict[Name, Names] = {}
    by_guild: dict[Name, Names] = {}
    scan_depth: Annotated[int, Field(ge=0, le=1000)] = 2
    recursive: bool = True
    include_names: bool = True
    case_sensitive: bool = False
    whole_words: bool = True
    group_scoring: bool = False
    budget_percent: Annotated[float, Field(ge=0, le=100)] = 25
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    placement: Literal["classic", "cache_friendly"] = "classic"


class Persona(Section):
    folder: str = "personas"
    default: str | None = None
    guard_file: str | None = None
    system_prompt_file: str | None = None
    cards_replace_style: bool = True
    name: str = "Understudy"
    by_channel: dict[Name, str] = {}
    by_guild: dict[Name, str] = {}
    lore: Lore = Lore()


class Offline(Section):
    """What is said when every provider failed; `{when}` becomes the soonest time known."""

    enabled: bool = True
    all_rate_limited: str = "I have to catch my breath - ask me again {when}."
    all_down: str = "I can't reach my thoughts right now. Give me a moment, please."
    deadline: str = "That took me too long, sorry. I'll try again in a moment."
    no_capable: str = "I can't look at that right now, sorry."
    too_long: str = "That is more than I can take in at once, sorry."
    rejected: str = "I can't answer that one, sorry."
    config: str = "I'm not set up properly at the moment; my operator has been told."
    budget: str = "I've talked enough for today - back {when}."
    busy: str = "It's crowded here right now - I'll get to you {when}."


class Access(Section):
    servers: Names = ()
    channels: Names = ()
    roles: Names = ()
    users: Names = ()


class Discord(Section):
    enabled: bool = True
    token: SecretStr | None = None
    token_env: str = "DISCORD_TOKEN"
    message_content: bool = True
    allow: Access = Access()
    deny: Access = Access()
    dms: Literal["everyone", "members", "admins", "off"] = "everyone"
    admins: Names = ()
    mention_author: bool = False
    allow_mentions: Names = ()
    auto_thread: bool = False
    stream_edits: bool = True
    edit_interval_seconds: Seconds = 1.2
    first_edit_seconds: Seconds = 1.5
    first_edit_chars: Annotated[int, Field(ge=1)] = 200
    max_parts: Annotated[int, Field(ge=1, le=20)] = 5
    catch_up_minutes: Annotated[float, Field(ge=0)] = 15
    catch_up_messages: Annotated[int, Field(ge=0, le=1000)] = 20
    shards: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    controls: bool = True


class Web(Section):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8005
    token: SecretStr | None = None
    chat_token: SecretStr | None = None
    allowed_hosts: Names = ()
    choose_order: bool = False
    """Whether people choose the server that is asked first, per conversation."""
    titles: bool = True
    """Whether a model gives each new conversation a title."""


class GatewayKey(Section):
    name: str
    sha256: str | None = None
    env: str | None = None
    """The variable that holds the key; `None` once it was read from there."""
    key: SecretStr | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    requests_per_day: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_day: Annotated[int, Field(ge=1)] | None = None


def _plain_key(value: object) -> object:
    return {"name": "unnamed", "key": value} if isinstance(value, str) else value


def _no_keys(value: object) -> object:
    return () if value is None else value


class Gateway(Section):
    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8006
    keys: Annotated[
        tuple[
            Annotated[
                GatewayKey, BeforeValidator(_plain_key, json_schema_input_type=str | GatewayKey)
            ],
            ...,
        ],
        BeforeValidator(_no_keys),
    ] = ()
    """With none it answers only on loopback."""
    orders: dict[Name, Names] = {}
    cors_origins: Names = ()
    max_body_bytes: Annotated[int, Field(ge=1024)] = 33_554_432
    max_held_bytes: Annotated[int, Field(ge=1024)] = 268_435_456
    """Limit on the bodies of all running requests together; further ones get 429."""
    max_requests: Annotated[int, Field(ge=1)] = 2500
    """Requests that run at the same time; further ones get 429."""
    degrade_images: bool = False
    clean: bool = True
    """End replies at leaked ends of turn of a chat template."""


class UserLimits(Section):
    requests_per_day: Annotated[int, Field(ge=1)] | None = None
    tokens_per_day: Annotated[int, Field(ge=1)] | None = None
    usd_per_day: Annotated[float, Field(gt=0)] | None = None


class Limits(Section):
    daily_usd: Annotated[float, Field(gt=0)] | None = None
    per_user: UserLimits = UserLimits()


class Storage(Section):
    url: str = "sqlite:///understudy.db"
    usage_days: Annotated[int, Field(ge=1)] = 400


class Logging(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    prompts: bool = False
    prompts_folder: str = "prompts"


class Telemetry(Section):
    enabled: bool = False
    endpoint: str = "http://127.0.0.1:4318/v1/traces"
    timeout_seconds: Seconds = 10


class Debug(Section):
    error_text: bool = False


class Run(Section):
    workers: Annotated[int, Field(ge=1, le=64)] = 1


class Settings(Section):
    model: ModelSettings = ModelSettings()
    vision: Vision = Vision()
    attachments: Attachments = Attachments()
    speech: Speech = Speech()
    participation: Participation = Participation()
    conversation: Conversation = Conversation()
    memory: Memory = Memory()
    persona: Persona = Persona()
    offline: Offline = Offline()
    discord: Discord = Discord()
    web: Web = Web()
    gateway: Gateway = Gateway()
    limits: Limits = Limits()
    storage: Storage = Storage()
    run: Run = Run()
    logging: Logging = Logging()
    telemetry: Telemetry = Telemetry()
    debug: Debug = Debug()

    @property
    def orders(self) -> dict[str, tuple[str, ...]]:
        """`model.orders`, and `gateway.orders`, its older name."""
        return {**self.gateway.orders, **self.model.orders}
