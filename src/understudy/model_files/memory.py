"""How much memory a model takes, how much there is, and what would fit instead."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from understudy.errors import ModelFileError
from understudy.model_files.catalogue import catalogue
from understudy.model_files.gguf import GgufFacts

BATCH_TOKENS = 512
"""What llama.cpp computes at once; its buffers grow with it."""
_PROCESS_BYTES = 150 * 1000 * 1000
"""Of the process before it has a model."""
_FLOAT_BYTES = 4
_USUAL_CACHE_BYTES = 150 * 1024
"""Per token of context, for files that do not say: that of a model of 4 to 8 billion weights."""
_LEAST_CONTEXT = 512
_CONTEXT_STEP = 256
_CATALOGUE_FACTOR = 1.5
"""From a file's size to a rough need."""
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is to be loaded, as far as memory goes."""

    facts: GgufFacts
    context: int
    """Tokens of each conversation."""
    parallel: int = 1
    """Conversations at once."""
    mmproj_bytes: int = 0

    @property
    def needed_bytes(self) -> int:
        """Deliberately high: weights, cache of the whole context, buffers, process."""
        return self._fixed_bytes + self.context * self.parallel * self._cache_bytes

    @property
    def _fixed_bytes(self) -> int:
        logits = BATCH_TOKENS * (self.facts.vocabulary or 0) * _FLOAT_BYTES
        return self.facts.size_bytes + 2 * self.mmproj_bytes + logits + _PROCESS_BYTES

    @property
    def _cache_bytes(self) -> int:
        return self.facts.cache_bytes_per_token or _USUAL_CACHE_BYTES

    def fitting_context(self, available: int) -> int | None:
        """The longest context that fits into `available` bytes, if any is long enough."""
        tokens = (available - self._fixed_bytes) // (self._cache_bytes * self.parallel)
        rounded = min(tokens // _CONTEXT_STEP * _CONTEXT_STEP, self.context)
        return rounded if rounded >= _LEAST_CONTEXT else None


def check_memory(plan: Plan, path: Path, available: int) -> None:
    """Raises ModelFileError, with what would fit, where a model needs more than `available`."""
    if plan.needed_bytes <= available:
        return
    raise ModelFileError(
        f"{path.name} needs about {_gb(plan.needed_bytes)} of memory with a context of "
        f"{plan.context} tokens for {plan.parallel} at once, and {_gb(available)} are free; "
        f"{_what_fits(plan, available)}"
    )


def available_bytes() -> int:
    """Memory that can be had now, within the container's limit."""
    free = psutil.virtual_memory().available
    left = _left_in_container()
    return free if left is None else min(free, left)


def _what_fits(plan: Plan, available: int) -> str:
    context = plan.fitting_context(available)
    if context is not None:
        return f"context_length: {context} would fit."
    sizes = {name: entry.size + entry.mmproj_size for name, entry in catalogue().items()}
    fitting = [name for name, size in sizes.items() if size * _CATALOGUE_FACTOR < available]
    if not fitting:
        return "no model of the catalogue would fit."
    return f"{max(fitting, key=sizes.__getitem__)} would fit."


def _left_in_container() -> int | None:
    """Of a control group of Linux, version 2; file pages are given back on demand."""
    try:
        limit = (_CGROUP / "memory.max").read_text()
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if not limit.strip().isdigit():
        return None
    return int(limit) - used + int(stat.get("inactive_file", 0))


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
