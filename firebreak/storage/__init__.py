"""The stores: inbox and timeline as SQLite files, written by group commit, append-only where the record is."""
