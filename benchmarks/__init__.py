"""What `make bench` runs: ratios against a peer in the same run, written to a table."""
