"""The expression language: text to a tree of known operators, never evaluated as Python."""
