"""`python -m understudy`."""

import gc
import sys


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        # Answered before any other import, which would cost most of the time.
        from importlib.metadata import version

        sys.stdout.write(f"understudy {version('understudy-bot')}\n")
        return
    # What starts up is nearly all imports, which leave no garbage: to look for it a hundred times
    # would take a third of the time.
    gc.set_threshold(200_000)
    _import_structlog()
    from understudy.cli.main import run

    run()


def _import_structlog() -> None:
    """Import structlog without rich, which it imports for tracebacks that are never written here.

    rich takes a tenth of the time of a start. The help pages import it when they are shown.
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]


if __name__ == "__main__":
    main()
