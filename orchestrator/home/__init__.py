"""What a candidate, a trial and a sweep are, and how they lie on disk."""
