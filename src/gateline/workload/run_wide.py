"""What `params.yaml` may say for the whole run, whichever workload it trains."""

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
