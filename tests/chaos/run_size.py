"""How large a run is, and how to have the same one again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    messages: int
    kills: int
    seed: int

    @property
    def channels(self) -> int:
        return max(5, min(100, self.messages // 25))

    @property
    def is_long(self) -> bool:
        """Rare and slow trouble comes only in runs that can wait for it to pass."""
        return self.messages >= 500

    @property
    def replay(self) -> str:
        return f'replay with: make chaos CHAOS="{self.messages} {self.kills} {self.seed}"'
