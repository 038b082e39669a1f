"""The sidecar: doors into the Rescorer, its adapters, and the Celery workers."""
