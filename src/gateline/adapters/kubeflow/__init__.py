"""Kubeflow Pipelines as a client sees it: what a workload gives the pipeline, the server, a run that is followed."""
