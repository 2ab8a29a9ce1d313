"""The store as a language: everything that can be asked of it is a small frozen operation."""
