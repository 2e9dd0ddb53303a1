"""Recurring runs on Kubeflow Pipelines: declared in `pipelines/schedules.yaml`, brought about by `python -m pipelines.schedule`."""
