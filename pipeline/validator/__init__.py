"""The validator role: claims due keys, looks at them, judges, commits."""
