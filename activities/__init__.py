"""The hands: activities that read, write and record. They know ports, not vendors."""
