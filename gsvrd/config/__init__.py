"""The configuration: what `config/gsvrd.yaml` and the `GSVRD_…` variables may say, and reading them.

Everybody above takes a `models.Config`; only `gsvrd` calls `load.load`. `gsvrctl` needs no more than `places`, which is
light and does not mind a broken file. Knows nothing of what the settings are used for.
"""
