"""The model names that clients may ask for."""

from collections.abc import Iterable, Mapping, Sequence

WHOLE_ORDER = "understudy"


class ModelNames:
    """What a name means: the whole order, an order of the configuration, or one candidate."""

    def __init__(self, candidates: Iterable[str], orders: Mapping[str, Sequence[str]]) -> None:
        self._candidates = tuple(dict.fromkeys(candidates))
        self._orders = {name: tuple(order) for name, order in orders.items()}
        self._meanings = {name: (name,) for name in self._candidates} | self._orders

    def order(self, name: str) -> tuple[str, ...] | None:
        """What to walk; `None` is the whole order, for `understudy` and every unknown name."""
        return self._meanings.get(name)

    def all(self) -> tuple[str, ...]:
        return (WHOLE_ORDER, *self._orders, *self._candidates)
