"""Whether a result is more than the best of many tries: statistics over the whole search."""
