"""What enters: files in the inbox, settled and checked. The daemon asks `intake`; workers use only `identity`."""
