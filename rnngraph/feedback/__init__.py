"""Feedback of outputs: opened, closed, mixed with measured values, and shifted in time."""

from rnngraph.feedback.ahead import predict_ahead
from rnngraph.feedback.loops import close_loop, open_loop
from rnngraph.feedback.mix import mix_feedback
from rnngraph.feedback.shift import add_delay, remove_delay

__all__ = ["add_delay", "close_loop", "mix_feedback", "open_loop", "predict_ahead", "remove_delay"]
