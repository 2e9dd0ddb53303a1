"""What evaluate measures and draws, one file per task, found by the task's name."""

INK, MODEL, SOFT = (
    "#17202a",
    "#0b6e99",
    "#9aa6b2",
)  # colours of every picture: what happened, the model, what is beside it
