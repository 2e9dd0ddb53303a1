"""The champion put to use: served over HTTP, or asked in batches; what it is asked can be kept."""
