"""What evaluate measures and draws, one file per task, found by the task's name."""
