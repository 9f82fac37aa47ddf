"""Alembic migrations of the two files, run when a store is opened. Never edit one that was released."""
