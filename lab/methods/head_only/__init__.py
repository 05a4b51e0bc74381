"""Head only: the classifier is trained, the model stays as it came."""
