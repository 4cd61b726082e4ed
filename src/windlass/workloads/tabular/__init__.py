"""Supervised learning on tables: bundled data sets or a CSV or Parquet file, five families of models, no torch."""
