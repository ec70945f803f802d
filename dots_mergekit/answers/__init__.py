"""Answers: taken out of a response (extraction), compared (equivalence), counted (vote), graded."""
