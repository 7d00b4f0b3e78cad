"""Keys of the gateway that are made while the program runs, and the interface of their store."""

from dataclasses import dataclass, replace
from typing import Protocol

from understudy.config.settings import GatewayKey


@dataclass(frozen=True, slots=True)
class KeyLimitValues:
    """What one key may use; None is without limit."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key without its value: only the SHA-256 of that is stored."""

    name: str
    sha256: str
    created_at: float
    """Wall clock."""
    revoked_at: float | None = None
    limits: KeyLimitValues = KeyLimitValues()

    def revoked(self, at: float) -> "StoredKey":
        return replace(self, revoked_at=at)

    def as_configured(self) -> GatewayKey:
        """The same as an entry of the configuration."""
        limits = self.limits
        return GatewayKey(
            name=self.name,
            sha256=self.sha256,
            requests_per_minute=limits.requests_per_minute,
            requests_per_day=limits.requests_per_day,
            tokens_per_minute=limits.tokens_per_minute,
            tokens_per_day=limits.tokens_per_day,
        )


class ClientKeyStore(Protocol):
    async def load(self) -> tuple[StoredKey, ...]:
        """Every key, revoked ones included, by name. Raises StorageError."""
        ...

    async def put(self, key: StoredKey) -> None:
        """Store a key, or replace the one of this name. Raises StorageError."""
        ...
