"""HTTP in: verify, store, answer. Nothing is decided here."""
