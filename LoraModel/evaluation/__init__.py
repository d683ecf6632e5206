"""How good a voice is: figures with intervals, several models side by side, a report to listen to.

For users (`evaluate.py`) and benchmarks; training and conversion import nothing of it.
"""
