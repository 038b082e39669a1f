"""Training on a schedule: Celery beat says when, a worker sees to it that one run at a time goes to its end."""
