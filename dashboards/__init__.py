"""Shows stored sweeps on a live page."""
