"""RDMs in tables: CSV and other text tables, and Parquet."""
