"""The six steps as a Kubeflow pipeline: edges only."""
