"""How codes are chosen by what a model does with a text."""
