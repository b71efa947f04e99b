"""What turns a video into an `Analysis`: the protocol in `base`, and its implementations."""
