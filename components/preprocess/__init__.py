"""The step preprocess: its command line and its Kubeflow face."""
