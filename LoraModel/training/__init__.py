"""Training an adapter from an RVC experiment folder."""
