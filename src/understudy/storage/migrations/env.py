"""How Alembic runs our migrations: on the connection it is given, in that one's transaction."""

from alembic import context

from understudy.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
