"""The story of an incident, one screen each. Workflows perform; what they do next is decided by pure functions."""
