"""Files: whole or not at all, state that a killed run goes on from, settings, and results."""
