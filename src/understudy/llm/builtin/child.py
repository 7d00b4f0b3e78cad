"""The process of one built-in model: llama.cpp's own server, out of the library xllamacpp.

It reads a `Launch` from standard input, writes a `Report` to standard output, and ends when its
standard input is closed: it never outlives the bot, however that ends.
"""

import contextlib
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from understudy.errors import ErrorClass, ModelFileError
from understudy.llm.builtin.launch import Failure, Launch, Ready, Report
from understudy.model_files.gguf import GgufFacts, read_gguf
from understudy.model_files.memory import Plan, available_bytes, check_memory

if TYPE_CHECKING:
    import xllamacpp

_NICENESS = 5
"""The bot itself must stay quick while all cores compute."""
_KILL_FIRST = "500"
"""For the kernel, which ends processes when memory runs out: rather this one than the bot."""
_ERRORS_ONLY = 1
_PENALTY_TOKENS = 256
"""How far back a repetition costs; the usual 64 are shorter than the loops of tiny models."""
_SPARE_HTTP_THREADS = 32
"""Beyond those of running replies: health checks and token counts must not wait for them."""


def main() -> None:
    """Serve until standard input ends."""
    # Libraries print to where they like; only the report goes to the bot.
    report_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _step_back()
    launch = msgspec.json.decode(sys.stdin.buffer.readline(), type=Launch)
    server, report = _serve(launch)
    report_to.write(msgspec.json.encode(report) + b"\n")
    report_to.flush()
    if server is not None:
        sys.stdin.buffer.read()
    # Without waiting for replies that still run: their reader is gone.
    os._exit(0 if server is not None else 1)


def _serve(launch: Launch) -> "tuple[object, Report]":
    """Load the model. The first value keeps the server alive; `None` where it failed."""
    try:
        import xllamacpp

        facts = read_gguf(Path(launch.model))
        _check(launch, facts, xllamacpp)
        server = xllamacpp.Server(_params(launch, xllamacpp))
    except ModelFileError as error:
        return None, Failure(ErrorClass.MODEL_GONE, str(error))
    except _TooLarge as error:
        return None, Failure(ErrorClass.OVERLOADED, str(error))
    except ImportError as error:
        return None, Failure(ErrorClass.SERVER_ERROR, f"xllamacpp cannot be loaded: {error}")
    except RuntimeError:
        name = Path(launch.model).name
        return None, Failure(ErrorClass.MODEL_GONE, f"llama.cpp cannot load {name}")
    except MemoryError:
        return None, Failure(ErrorClass.OVERLOADED, "memory ran out while the model was loading")
    return server, Ready(str(server.listening_address))


class _TooLarge(Exception):
    """More memory is needed than is free now."""


def _check(launch: Launch, facts: GgufFacts, library: "xllamacpp") -> None:
    """Refuse what llama.cpp would only crash on. Raises ModelFileError, _TooLarge."""
    path = Path(launch.model)
    if facts.kind != "model":
        raise ModelFileError(f"{path} is an image encoder: give it as mmproj, beside a model.")
    if not _knows(library, facts.architecture):
        raise ModelFileError(
            f"{path} has the architecture {facts.architecture!r}, which this version of llama.cpp "
            "does not know: a newer xllamacpp may."
        )
    mmproj_bytes = _check_mmproj(launch.mmproj) if launch.mmproj else 0
    if launch.gpu_layers != 0 and _has_gpu(library):
        return
    plan = Plan(facts, launch.context, launch.parallel, mmproj_bytes)
    try:
        check_memory(plan, path, available_bytes())
    except ModelFileError as error:
        raise _TooLarge(str(error)) from None


def _check_mmproj(name: str) -> int:
    facts = read_gguf(Path(name))
    if facts.kind != "mmproj":
        raise ModelFileError(f"{name} is not an image encoder: mmproj is for those only.")
    return facts.size_bytes


def _knows(library: "xllamacpp", architecture: str) -> bool:
    """Whether the name is among the constants of the compiled library.

    llama.cpp has no other list to ask. A name that is there by chance is refused when loading.
    """
    with (
        Path(library.xllamacpp.__file__).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code,
    ):
        return code.find(architecture.encode() + b"\0") >= 0


def _has_gpu(library: "xllamacpp") -> bool:
    """One with memory of its own; those built into a CPU share its memory."""
    return any(device["type"].name.endswith("_TYPE_GPU") for device in library.get_device_info())


def _params(launch: Launch, library: "xllamacpp") -> "xllamacpp.CommonParams":
    params = library.CommonParams()
    params.model.path = launch.model
    params.model_alias = {launch.alias}
    if launch.mmproj:
        params.mmproj.path = launch.mmproj
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [launch.key]
    params.n_parallel = launch.parallel
    params.n_ctx = launch.context * launch.parallel
    params.n_threads_http = launch.parallel + _SPARE_HTTP_THREADS
    params.cpuparams.n_threads = launch.threads or os.cpu_count() or 1
    if launch.gpu_layers is not None:
        params.n_gpu_layers = launch.gpu_layers
    params.fit_params = launch.gpu_layers is None and _has_gpu(library)
    if launch.chat_template:
        params.chat_template = launch.chat_template
    _set_sampling(launch, params)
    params.cache_ram_mib = launch.prompt_cache_mb
    params.reasoning_format = library.common_reasoning_format.COMMON_REASONING_FORMAT_AUTO
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = _ERRORS_ONLY
    return params


def _set_sampling(launch: Launch, params: "xllamacpp.CommonParams") -> None:
    if launch.temperature is not None:
        params.sampling.temp = launch.temperature
    if launch.repeat_penalty is not None:
        params.sampling.penalty_repeat = launch.repeat_penalty
        params.sampling.penalty_last_n = _PENALTY_TOKENS


def _step_back() -> None:
    """Leave the bot the first place, where the system knows such a thing."""
    nice: Callable[[int], int] | None = getattr(os, "nice", None)
    if nice is not None:
        nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILL_FIRST)


if __name__ == "__main__":
    main()
