"""What a row of the suite is: an attack, the figures it yields, and the most each may be."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from attack.model_server import ModelServer, model_server
from attack.program import Program, free_port, merged, running, settings

COMMON = {"peak_mb": 400.0, "health_s": 0.5, "stop_s": 25.0, "died": 0.0}
"""Of every row: memory of the process tree, the slowest health page, SIGTERM to exit."""

Figures = dict[str, float]


@dataclass(slots=True)
class Scene:
    """What a row works with; what it leaves open stays open until the program has stopped."""

    folder: Path
    open: ExitStack
    figures: Figures = field(default_factory=dict)

    @contextmanager
    def program(
        self,
        over: Mapping[str, object] | None = None,
        *,
        text: Callable[[], str] | None = None,
        files: int | None = None,
        stderr: int | None = None,
    ) -> Iterator[tuple[Program, ModelServer]]:
        """The program with one model server; stopped at the end, while the attack is still on."""
        with model_server(text) as model:
            base = settings(free_port(), free_port(), {"stand-in": model.entry()})
            config = merged(base, over or {})
            with running(self.folder, config, stderr=stderr, files=files) as program:
                yield program, model
                program.stop()
        self.add(program.figures)

    def add(self, figures: Mapping[str, float]) -> None:
        """The worst of each figure counts, where a row starts the program several times."""
        for name, value in figures.items():
            self.figures[name] = max(value, self.figures.get(name, value))


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    title: str
    attack: Callable[[Scene], None]
    limits: Mapping[str, float]
    """The most that the row's own figures may be, besides those in `COMMON`."""
