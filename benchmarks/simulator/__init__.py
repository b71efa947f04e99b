"""A simulated world for the controller: discrete events, seeded, no clock and no process; see docs/adaptive.md."""
