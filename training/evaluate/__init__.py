"""The stage `evaluate`: is the model better, where, by how much, and how sure is that."""

from training.evaluate.evaluation import Plan
from training.evaluate.metrics import Metrics
from training.evaluate.stage import EvaluateConfig, evaluate_collections, run
from training.evaluate.weights import choose_weights

__all__ = ["EvaluateConfig", "Metrics", "Plan", "choose_weights", "evaluate_collections", "run"]
