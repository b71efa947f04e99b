"""Pure decisions. Everything here is given the time and the figures; it reads nothing and starts nothing."""
