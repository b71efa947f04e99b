"""`python -m gsvrd` is `gsvrd`."""

from gsvrd.cli.gsvrd import main

main()
