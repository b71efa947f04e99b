"""gsvrd: a daemon that turns videos into lesson plans."""

__version__ = "0.1.0"
