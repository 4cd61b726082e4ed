"""From an idea to expressions: cookbook, grammar, variation of the best; every one of them is on record."""
