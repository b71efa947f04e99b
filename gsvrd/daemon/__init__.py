"""The long-running process: one loop in the main thread, and the small rooms it calls."""
