"""`python -m understudy`."""

import sys


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        # Before anything is imported that is not needed for it.
        from importlib.metadata import version

        sys.stdout.write(f"understudy {version('understudy')}\n")
        return
    from understudy.cli.main import run

    run()


if __name__ == "__main__":
    main()
