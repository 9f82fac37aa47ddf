"""Migrations of timeline.sqlite."""
