"""The use case: search bodies in and out, and the Rescorer. Knows ports only."""
