"""The embedded default: a small base, recordings, and the report that shows what came out."""
