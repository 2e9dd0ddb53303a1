"""The MLflow registry: from a judged model to a registered version, and who is champion."""
