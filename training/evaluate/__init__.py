"""The stage `evaluate`: is the model better, where, by how much, and how sure is that."""
