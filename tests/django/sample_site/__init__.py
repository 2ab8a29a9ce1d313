"""A small Django project, on the app of the tests."""
