"""What reading JSON from strangers may raise."""

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec checks UTF-8 only where it makes a string, and then with an error of Python's own."""
