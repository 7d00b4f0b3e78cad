"""Finds instances on one database that run with different configurations."""

from collections import defaultdict

from understudy.app.setup.discord_token import Check
from understudy.config.load import Config
from understudy.errors import StorageError

_NAME = "instances"


async def different_configurations(config: Config) -> tuple[Check, ...]:
    """Empty where all have one configuration, and where none runs."""
    from understudy.storage.revisions import running_revisions

    try:
        revisions = await running_revisions(config.settings.storage.url)
    except StorageError as error:
        return (Check(_NAME, ok=False, advice=str(error)),)
    by_revision: dict[str, list[str]] = defaultdict(list)
    for instance, revision in sorted(revisions.items()):
        by_revision[revision].append(instance)
    if len(by_revision) < 2:
        return ()
    groups = "; ".join(
        f"{', '.join(names)} with {revision or 'none'}"
        + (" (this file)" if revision == config.rev else "")
        for revision, names in sorted(by_revision.items())
    )
    advice = f"instances run with different configurations: {groups}; give all the same file"
    return (Check(_NAME, ok=False, advice=advice),)
