"""Redis, Celery, the model server and the engine behind the ports of rescoring."""
