"""Recordings to an experiment folder for the page: the steps in order, resumed and stopped; time and size before the
first step."""
