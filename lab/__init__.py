"""The accuracy laboratory: Ravan and its rivals on the same clients, the same batches and the same bytes."""
