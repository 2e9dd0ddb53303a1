"""Images of the six steps (`python -m infra.images build`) and of the servers (`servers`), made with podman or docker; `push`ed to a registry."""
