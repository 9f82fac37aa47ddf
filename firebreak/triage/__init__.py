"""Deciding what an incident is: facts in, verdict out. Pure; the clock and all evidence are passed in."""
