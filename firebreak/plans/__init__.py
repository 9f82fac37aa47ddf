"""Runbook documents: read, checked, chosen, pinned as frozen plans, and walked. Pure: data in, value out."""
