"""WHAT IS KNOWN: studies, decisions and run summaries, searchable. Metric history never enters the store."""
