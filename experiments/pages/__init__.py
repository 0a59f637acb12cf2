"""Demonstrations of a few seconds or minutes, each with a page of numbers and a picture."""
