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
    from understudy.cli.main import run

    run()


if __name__ == "__main__":
    main()
