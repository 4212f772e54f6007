"""Shipped equations, solved by an MLP, a KAN and a MetaKAN in one harness."""
