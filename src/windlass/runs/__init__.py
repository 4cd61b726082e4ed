"""WHAT HAPPENED: the run folder, the journal's writer and readers, exports, compare and replay."""
