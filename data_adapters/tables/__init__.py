"""RDMs and patterns in tables: CSV and its relatives, and Parquet."""
