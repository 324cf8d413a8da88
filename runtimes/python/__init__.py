"""The native engine, as `cpp/include/edgekit/edgekit.h` publishes it.

`edgekit.engine` is its face for people.
"""
