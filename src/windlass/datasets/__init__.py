"""Data to train on and to judge by: preference pairs, tasks, traces; read strictly, cleaned, split by content."""
