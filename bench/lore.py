"""How long finding lore takes: 100 to 10,000 entries against one message, best of several runs.

Run with `python bench/lore.py`; the goal is under 20 ms for 10,000 entries, growing linearly.
"""

import random
import time
from collections.abc import Callable

from understudy.conversation.lore.book import Book, Entry
from understudy.conversation.lore.patterns import Patterns
from understudy.conversation.lore.scan import IndexedBook, Reader, scan
from understudy.conversation.lore.scene import Budget, Lore, LoreSettings, Scene, Spoken

_SYLLABLES = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]


def _word(dice: random.Random) -> str:
    return "".join(dice.choices(_SYLLABLES, k=dice.randint(2, 4)))


def _book(size: int, dice: random.Random) -> Book:
    entries = (
        Entry(
            str(i),
            keys=(_word(dice), f"{_word(dice)} {_word(dice)}", _word(dice)),
            secondary=(_word(dice),) if i % 10 == 0 else (),
            content=" ".join(_word(dice) for _ in range(40)),
        )
        for i in range(size)
    )
    return Book("bench", "bench", tuple(entries))


def _best_ms(work: Callable[[], Lore], runs: int = 15) -> float:
    best = float("inf")
    for _ in range(runs):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best * 1000


def main() -> None:
    dice = random.Random(1)
    message = " ".join(_word(dice) for _ in range(60))
    settings = LoreSettings()
    print("one message of about 450 characters, three keys an entry, recursion on")
    print(f"{'entries':>8} {'ms':>8} {'µs/entry':>9} {'found':>6}")
    for size in (100, 1_000, 10_000):
        book = _book(size, random.Random(size))
        named = " ".join(key for entry in book.entries[:5] for key in entry.keys)
        scene = Scene((Spoken("Ann", message), Spoken("Bob", f"{named}?")), 100, "seed")
        indexed = IndexedBook(book)
        reader = Reader(settings, Budget(1500, lambda text: len(text) // 3), Patterns())

        def work(
            indexed: IndexedBook = indexed, scene: Scene = scene, reader: Reader = reader
        ) -> Lore:
            return scan([indexed], scene, reader, {})

        ms = _best_ms(work)
        print(f"{size:>8} {ms:>8.2f} {ms * 1000 / size:>9.2f} {len(work().activated):>6}")


if __name__ == "__main__":
    main()
