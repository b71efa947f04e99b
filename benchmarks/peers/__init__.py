"""Who runs in the race: gsvrd's own queue and pool, and others that do the same job. Each file is one contestant."""
