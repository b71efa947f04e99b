"""Metrics and probes: Prometheus text on a listener and in a file. Off by default; `station` starts what is wanted."""
