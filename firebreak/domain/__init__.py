"""Frozen values and the protocols of what the hands need. Standard library only; nothing here does IO."""
