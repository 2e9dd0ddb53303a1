"""The step evaluate: its command line and its Kubeflow face."""
