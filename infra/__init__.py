"""What Gateline runs on: images, a stack on one machine, manifests for Kubernetes."""
