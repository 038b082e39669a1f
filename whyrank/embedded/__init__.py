"""A local engine, Valkey and model server for one machine."""
