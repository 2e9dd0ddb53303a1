"""How sequences are kept, split, scaled and gathered; knows no task and no model."""
