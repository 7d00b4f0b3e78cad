"""Model lists and probe failures → `ProbeReport`. Pure."""

from dataclasses import dataclass

import msgspec

from understudy.errors import NOT_JSON, BadReply, ErrorClass, ProviderError
from understudy.llm.addresses import is_local
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.pricing import Price


class _Architecture(msgspec.Struct):
    input_modalities: list[str] | None = None


class _Capabilities(msgspec.Struct):
    vision: bool | None = None


class _Meta(msgspec.Struct):
    n_ctx: int | None = None


class _Status(msgspec.Struct):
    value: str | None = None


class _Pricing(msgspec.Struct):
    prompt: str | float | None = None
    completion: str | float | None = None
    request: str | float | None = None
    input_cache_read: str | float | None = None

    @property
    def price(self) -> Price | None:
        given = _usd(self.prompt), _usd(self.completion)
        if given[0] is None or given[1] is None:
            return None
        return Price(given[0], given[1], _usd(self.input_cache_read), _usd(self.request) or 0.0)


def _usd(value: str | float | None) -> float | None:
    """US dollars per token: OpenRouter writes them as text; Chutes and NanoGPT write numbers, per
    million tokens. A negative price (OpenRouter's routers) says that it depends."""
    try:
        usd = float(value) if isinstance(value, str) else value / 1e6 if value is not None else None
    except ValueError:
        return None
    return usd if usd is not None and usd >= 0 else None


class ListedModel(msgspec.Struct):
    """One entry of a model list, whichever server wrote it; everything but the id may lack."""

    id: str
    context_length: int | None = None
    max_model_len: int | None = None
    max_context_length: int | None = None
    architecture: _Architecture | None = None
    input_modalities: list[str] | None = None
    capabilities: _Capabilities | list[str] | None = None
    meta: _Meta | None = None
    status: _Status | str | None = None
    pricing: _Pricing | None = None

    @property
    def price(self) -> Price | None:
        return self.pricing.price if self.pricing else None

    @property
    def n_ctx(self) -> int | None:
        named = self.context_length or self.max_model_len or self.max_context_length
        return named or (self.meta.n_ctx if self.meta else None)

    @property
    def sees(self) -> bool | None:
        inputs = self.input_modalities
        if inputs is None and self.architecture is not None:
            inputs = self.architecture.input_modalities
        if inputs is not None:
            return "image" in inputs
        if isinstance(self.capabilities, list):
            return "multimodal" in self.capabilities or "vision" in self.capabilities
        return self.capabilities.vision if self.capabilities else None


class _Listing(msgspec.Struct):
    data: list[msgspec.Raw] | None = None
    models: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class ModelList:
    models: tuple[ListedModel, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(model.id for model in self.models)

    def find(self, name: str) -> ListedModel | None:
        """Find a model by its name, with Google's `models/` prefix or without."""
        wanted = name.removeprefix("models/")
        return next((m for m in self.models if m.id.removeprefix("models/") == wanted), None)


def read_models(body: bytes) -> ModelList:
    """Read a model list, leaving out entries it cannot read. Raises `bad_body` for none at all."""
    text = body.strip()
    try:
        entries: list[msgspec.Raw] | None
        if text[:1] == b"[":
            entries = msgspec.json.decode(text, type=list[msgspec.Raw])
        else:
            listing = msgspec.json.decode(text, type=_Listing)
            entries = listing.data if listing.data is not None else listing.models
    except NOT_JSON:
        raise BadReply(ErrorClass.BAD_BODY) from None
    if entries is None:
        raise BadReply(ErrorClass.BAD_BODY)
    return ModelList(tuple(model for entry in entries if (model := _entry(entry)) is not None))


def _entry(raw: msgspec.Raw) -> ListedModel | None:
    try:
        return msgspec.json.decode(raw, type=ListedModel)
    except NOT_JSON:
        pass
    try:  # an odd type in a side field must not hide the model itself
        return ListedModel(msgspec.json.decode(raw, type=_Named).id)
    except NOT_JSON:
        return None


class _Named(msgspec.Struct):
    id: str


def model_report(models: ModelList, name: str) -> ProbeReport:
    """Report on `name`, or on the only or first model where the server chooses."""
    found = models.find(name) if name else next(iter(models.models), None)
    if found is None:
        return ProbeReport(
            ProbeState.MODEL_MISSING, models=models.ids, advice=_missing(models, name)
        )
    return ProbeReport(
        ProbeState.READY,
        model=found.id,
        models=models.ids,
        context_length=found.n_ctx,
        vision=found.sees,
        price=found.price,
    )


def _missing(models: ModelList, name: str) -> str:
    if not models.models:
        return "no model is loaded: load one in the server"
    near = nearest(name, models.ids)
    hint = f"; nearest names: {', '.join(near)}" if near else ""
    return f"the model {name!r} is not there (any more){hint}"


def nearest(name: str, names: tuple[str, ...]) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(name, names, n=3, cutoff=0.5)


REDIRECTS = "redirects to "
_STATES: dict[ErrorClass, ProbeState] = {
    ErrorClass.LOADING: ProbeState.LOADING,
    ErrorClass.AUTH: ProbeState.KEY_REFUSED,
    ErrorClass.QUOTA: ProbeState.KEY_REFUSED,
    ErrorClass.MODEL_GONE: ProbeState.BROKEN,
    ErrorClass.BAD_BODY: ProbeState.BROKEN,
    ErrorClass.BAD_REQUEST: ProbeState.BROKEN,
    ErrorClass.SERVER_ERROR: ProbeState.BROKEN,
}

_ADVICE: dict[ErrorClass, str] = {
    ErrorClass.CONNECT_REFUSED: "nothing listens at {url}: start the server or correct base_url",
    ErrorClass.DNS: "the host of {url} has no address: correct base_url or check the network",
    ErrorClass.TLS: "the certificate of {url} was refused: check the address and the clock",
    ErrorClass.CONNECT_TIMEOUT: "{url} takes no connection: is it up, is a firewall in between?",
    ErrorClass.FIRST_TOKEN_TIMEOUT: "{url} took the connection and stayed silent: busy or stuck",
    ErrorClass.AUTH: "{url} refused the key: check that it is set and still valid",
    ErrorClass.QUOTA: "the account behind the key has no credit left: top it up",
    ErrorClass.LOADING: "the model is still being loaded: it will be used as soon as it is ready",
    ErrorClass.MODEL_GONE: "{url} does not answer like this engine: check base_url and engine",
    ErrorClass.BAD_BODY: "{url} does not answer like this engine: check base_url and engine",
    ErrorClass.RATE_LIMITED: "{url} limits this key at the moment: the next provider answers",
    ErrorClass.OVERLOADED: "{url} is overloaded at the moment: the next provider answers",
}


_HOSTED_REFUSED = "cannot reach {url}: check the network or HTTPS_PROXY"


def report_failure(error: ProviderError, url: str) -> ProbeReport:
    """Report a probe that failed, with advice for a person."""
    status = f" (HTTP {error.http_status})" if error.http_status else ""
    advice = _ADVICE.get(error.error_class, "{url} answered with an error" + status)
    if error.error_class is ErrorClass.CONNECT_REFUSED and not is_local(url):
        advice = _HOSTED_REFUSED
    if "use http" in error.detail:  # http where TLS is wanted, or the other way round
        advice = "{url}: " + error.detail
    if error.detail.startswith(REDIRECTS):
        advice = "{url} " + error.detail.replace("{", "").replace("}", "") + ": use that address"
    state = _STATES.get(error.error_class, ProbeState.UNREACHABLE)
    return ProbeReport(state, advice=advice.format(url=url))
