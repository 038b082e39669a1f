"""Web data into the engine."""
