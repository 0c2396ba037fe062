"""Makes the servers match what billing decided. Imports billing; the API may only wake it."""
