"""The limit of every wait in the tests."""

LIMIT_S = 300.0
"""Only what never happens takes this long, on however busy a machine."""
