"""Examples, splits, order and batches; nothing here knows a model."""
