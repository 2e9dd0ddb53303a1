"""Images of the six steps: `python -m infra.images build` makes them with podman or docker, `show` says which they are."""
