"""Other engines behind the face of `edgekit.Model`: the same options, the same events."""
