"""Who does the work: the messages, the worker (a child process), the process pool and the inline pool."""
