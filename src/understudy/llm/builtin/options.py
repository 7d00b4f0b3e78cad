"""From the settings of a built-in model to how it is loaded."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import ConfigError, ModelFileError
from understudy.llm.builtin.launch import Launch
from understudy.model_files.catalogue import catalogue
from understudy.model_files.folder import ModelFolder
from understudy.model_files.gguf import read_gguf
from understudy.model_files.memory import Plan

USUAL_CONTEXT = 4096
"""Where none is configured: enough for a persona and some history, affordable in memory."""
_PROMPT_CACHE_MB = 128
"""Of prompts that llama.cpp keeps, so that a conversation does not start at its first token."""
_SLACK_BYTES = 512 * 1000 * 1000
"""Above the estimate, before a process is ended as one that leaks."""


@dataclass(frozen=True, slots=True)
class BuiltinOptions:
    """One model as configured; equal options share one process."""

    model: str
    mmproj: str | None = None
    context_length: int | None = None
    parallel: int = 2
    threads: int | None = None
    gpu_layers: int | None = None
    chat_template: str | None = None
    memory_limit_mb: int | None = None
    idle_unload_minutes: float | None = None


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What one load takes."""

    launch: Launch
    memory_limit_bytes: int

    @property
    def sees(self) -> bool:
        return self.launch.mmproj is not None


def require_llama_cpp() -> None:
    """Raises ConfigError where the extra [builtin] is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError(
            "engine builtin needs llama.cpp: install understudy with the extra [builtin]"
        )


def model_alias(model: str) -> str:
    """The model's name in replies and records."""
    return model if model in catalogue() else Path(model).stem


def plan_load(options: BuiltinOptions, folder: ModelFolder, base: Path) -> LoadPlan:
    """Find the files and read what they say. Raises ModelFileError."""
    files = folder.locate(options.model, base)
    facts = read_gguf(files.model)
    mmproj = folder.path(options.mmproj, base) if options.mmproj else files.mmproj
    longest = facts.context_length
    wanted = options.context_length or USUAL_CONTEXT
    context = min(wanted, longest) if longest else wanted
    plan = Plan(facts, context, options.parallel, mmproj.stat().st_size if mmproj else 0)
    limit = options.memory_limit_mb
    if limit is not None and plan.needed_bytes > limit * 1_000_000:
        fitting = plan.fitting_context(limit * 1_000_000)
        hint = f"context_length: {fitting} would fit" if fitting else "use a smaller model"
        raise ModelFileError(
            f"{files.model.name} needs about {plan.needed_bytes / 1e6:.0f} MB, and "
            f"memory_limit_mb is {limit}: {hint}."
        )
    known = catalogue().get(options.model)
    return LoadPlan(
        Launch(
            model=str(files.model),
            mmproj=str(mmproj) if mmproj else None,
            alias=model_alias(options.model),
            context=context,
            parallel=options.parallel,
            threads=options.threads,
            gpu_layers=options.gpu_layers,
            chat_template=_template(options.chat_template, base),
            prompt_cache_mb=_PROMPT_CACHE_MB,
            temperature=known.temperature if known else None,
            repeat_penalty=known.repeat_penalty if known else None,
        ),
        limit * 1_000_000 if limit else plan.needed_bytes + _SLACK_BYTES,
    )


def _template(chosen: str | None, base: Path) -> str | None:
    """A template's own text, llama.cpp's name for one, or what a file holds."""
    if chosen is None or not chosen.endswith((".jinja", ".jinja2", ".txt")):
        return chosen
    try:
        return (base / Path(chosen).expanduser()).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ModelFileError(f"chat_template: {chosen} cannot be read.") from None
