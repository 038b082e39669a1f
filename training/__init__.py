"""From the data of the engine to the model: mine, synthesize, distill, refine, evaluate, promote (docs/training)."""
