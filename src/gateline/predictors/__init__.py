"""Predictors: a trained model of a task with its preprocessing inside, as it is evaluated and served."""
