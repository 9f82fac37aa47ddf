"""The lab: a small cluster with a shop that breaks on command, and stand-ins for Slack and the pager."""
