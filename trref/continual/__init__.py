"""Learning tasks one after the other without forgetting."""
