"""What is measured, against whom; results stand in `benchmarks/results`."""
