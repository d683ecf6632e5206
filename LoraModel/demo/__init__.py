"""The embedded default: a small base, recordings, a stand-in for HuBERT, and the report that shows what came out."""
