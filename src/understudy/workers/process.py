"""The child of a worker pool: reads calls from standard input, writes results to standard output.

Started as `main MEMORY_MB DEADLINE_S PACKAGE`. Ends when its standard input is closed, which
happens however the parent ends.
"""

import faulthandler
import importlib
import os
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

import msgspec

_HEAD = struct.Struct(">I")
_MIB = 1024 * 1024
_SPARE_MB = 512
"""Address space that a child has besides its resident memory: code, stacks, reserved areas."""
_SPARE_S = 5.0
_MAX_TEXT = 2000


def main() -> None:
    limit_memory(int(sys.argv[1]) + _SPARE_MB)
    deadline_s = float(sys.argv[2]) + _SPARE_S
    package = sys.argv[3]
    calls = sys.stdin.buffer
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    with open(quiet, "w") as nowhere:  # noqa: PTH123 - it is a descriptor
        while (request := _read(calls)) is not None:
            # Ends this process when its parent is gone and cannot: from a thread without the GIL.
            faulthandler.dump_traceback_later(deadline_s, exit=True, file=nowhere)
            answer = answer_to(request, package)
            faulthandler.cancel_dump_traceback_later()
            answers.write(_HEAD.pack(len(answer)))
            answers.write(answer)
            answers.flush()


def answer_to(request: bytes, package: str) -> bytes:
    """`("done", result)`, or `("failed", (type, text))` for an exception.

    Without arguments (None) the function is only imported.
    """
    name, args = msgspec.msgpack.decode(request, type=tuple[str, list[object] | None])
    try:
        function = function_of(name, package)
        result = None if args is None else function(*args)
        return msgspec.msgpack.encode(("done", result))
    except Exception as error:  # noqa: BLE001 - the root of the child's work
        text = str(error)[:_MAX_TEXT].encode("utf-8", "replace").decode()
        return msgspec.msgpack.encode(("failed", (type(error).__name__, text)))


def function_of(name: str, package: str) -> Callable[..., object]:
    """The function `module:name` of the package; raises for any other."""
    module, _, function = name.partition(":")
    if module.partition(".")[0] != package:
        raise ValueError(f"{name!r} is not part of {package}")
    found: object = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise TypeError(f"{name!r} is no function")
    return found


def limit_memory(megabytes: int) -> None:
    """A hard limit of the system where there is one: the parent's watch only samples."""
    if sys.platform == "win32":
        return
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = megabytes * _MIB
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    (size,) = _HEAD.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None
