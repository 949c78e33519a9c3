"""A store's statistics as metrics: ``prometheus`` and ``opentelemetry``, each for who has that library.

Importing the library imports neither.
"""
