"""Last task of a pipeline, whatever became of the steps: say how it ended."""
