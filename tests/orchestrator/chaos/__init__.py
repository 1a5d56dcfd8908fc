"""A sweep under SIGKILL: its parts are killed one after the other, and its files, journal and store are audited."""
