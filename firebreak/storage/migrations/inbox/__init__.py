"""Migrations of inbox.sqlite."""
