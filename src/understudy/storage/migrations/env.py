"""Alembic's entry point: runs migrations on the given connection, in its transaction."""

from alembic import context

from understudy.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
