"""PostgreSQL, an object store and MLflow on one machine, without Kubernetes: `python -m infra.local up`."""
