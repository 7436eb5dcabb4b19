"""What Alembic runs; `schema` hands it the connection. There is no ini file and no offline mode."""

from alembic import context

from gateway.journal.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
