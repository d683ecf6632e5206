"""How good a voice is: figures with intervals, several models side by side, a report to listen to.

For users (`evaluate.py`) and benchmarks; training and conversion import nothing of it.
More than nine files: what is measured (`recordings`, `metrics`, `texture`, `words`, `bootstrap`, `binomial`, `compare`;
the networks that judge are those of `LoraModel.judges`), what is known and kept of it (`figures`, `results`), and what
is shown (`report`, `abx`, `page`, `pictures`), beside the command.
"""
