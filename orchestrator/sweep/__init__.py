"""Runs one sweep from its spec to its report, and says where it stands."""
