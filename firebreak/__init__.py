"""Firebreak: the incident runbook and auto-remediation engine. Rooms and arrows: docs/architecture.md."""
