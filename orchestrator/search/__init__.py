"""Decides what to run next, what to stop, and which candidates go to confirm."""
