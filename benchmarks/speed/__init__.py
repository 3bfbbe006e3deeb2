"""Speed beside that of the peers, on the same machine in the same run: `make bench`."""
