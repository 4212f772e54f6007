"""What benchmarks share: data, seconds and memory, ledgers of rows, tables."""
