"""What talks to the outside world: files and addresses, DuckDB, Great Expectations, MLflow, the terminal."""
