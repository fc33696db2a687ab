"""Learning from several domains what holds in a new one."""
