"""The step register: its command line and its Kubeflow face."""
