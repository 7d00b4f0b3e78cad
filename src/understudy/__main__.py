"""`python -m understudy`."""


def main() -> None:
    from understudy.cli.main import app

    app()


if __name__ == "__main__":
    main()
