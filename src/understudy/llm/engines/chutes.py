"""Chutes: FastAPI errors, no mercy for empty pools, and keys that the model list never checks."""

from understudy.errors import ErrorClass, HoldScope
from understudy.llm.addresses import host_of, server_root
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.dialect import Dialect, Wording
from understudy.llm.model_list import ModelList
from understudy.llm.openai_client import OpenAIClient

DIALECT = Dialect(
    engine="chutes",
    base_url="https://llm.chutes.ai/v1",
    id_header=b"x-chutes-invocationid",
    wordings=(
        # Full instances say nothing of the key: other models of it go on.
        Wording("maximum capacity", ErrorClass.RATE_LIMITED, scope=HoldScope.MODEL),
        Wording("under maintenance", ErrorClass.RATE_LIMITED, scope=HoldScope.MODEL),
        Wording("no instances available", ErrorClass.OVERLOADED, scope=HoldScope.MODEL),
        Wording("exhausted all available targets", ErrorClass.SERVER_ERROR),
        Wording("unhandled exception during response stream", ErrorClass.SERVER_ERROR),
    ),
)

_POOL_SUFFIXES = (":latency", ":throughput", ":THINKING")


class ChutesClient(OpenAIClient):
    async def probe(self, model: str) -> ProbeReport:
        """The model list is public, so the key is shown to the account's own page."""
        return await self.key_refusal(self._account_url()) or await super().probe(model)

    def report(self, models: ModelList, model: str) -> ProbeReport:
        """A name may be a pool (`a,b:latency`): it is there while one of its models is."""
        pool = model
        for suffix in _POOL_SUFFIXES:
            pool = pool.removesuffix(suffix)
        if pool == "default":
            return ProbeReport(ProbeState.READY, model=model, models=models.ids)
        there = [name for name in pool.split(",") if models.find(name)]
        return super().report(models, there[0] if there else pool)

    def _account_url(self) -> str:
        base_url = self.endpoint.base_url
        root = "https://api.chutes.ai" if host_of(base_url).endswith("chutes.ai") else None
        return f"{root or server_root(base_url)}/users/me"
