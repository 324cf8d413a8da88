"""The native engine, as `cpp/include/edgekit/edgekit.h` publishes it.

`edgekit.model` is its face for people.
"""
