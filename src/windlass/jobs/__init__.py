"""RUN: the executor protocol, the local executor, its in-process twin, and collection of results."""
