"""What goes into the estimators: rows of tables, and images."""
