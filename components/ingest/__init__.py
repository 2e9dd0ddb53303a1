"""The step ingest: its command line and its Kubeflow face."""
