"""How good a voice is: figures with intervals, several models side by side, a report to listen to.

For users (`evaluate.py`) and benchmarks; training and conversion import nothing of it.
More than nine files: what is measured (`recordings`, `metrics`, `judges`, `bootstrap`, `compare`), what is kept of it
(`results`), and what is shown (`report`, `page`, `pictures`), beside the command.
"""
