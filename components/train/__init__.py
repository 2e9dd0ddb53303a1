"""The step train: its command line and its Kubeflow face."""
