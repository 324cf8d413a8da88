"""A smaller model that behaves like a larger one: the student, the targets, the training."""
