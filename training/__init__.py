"""From the data of the engine to the model (issue 4 fills this room)."""
