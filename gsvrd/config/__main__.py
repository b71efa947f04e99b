"""`python -m gsvrd.config` prints the JSON schema of the configuration."""

import sys

from gsvrd.config.schema import json_schema

sys.stdout.write(json_schema())
