"""The contestants, each a process; those of the peers live in an environment of their own."""
