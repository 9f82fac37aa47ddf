"""Canonical JSON, the hash chain over the timeline, and phase timings. Pure: no IO, no clock."""
