"""All SQL. One connection a process; only the daemon's loop and short-lived commands write."""
