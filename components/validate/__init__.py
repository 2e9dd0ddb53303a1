"""The step validate: its command line and its Kubeflow face."""
