"""Simple methods that a model must beat, one file per task, found by the task's name."""
