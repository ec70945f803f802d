"""Answers: taken out of a response, compared for meaning, put to the vote, graded."""
