"""Action sources: whoever predicts chunks of actions from what an environment shows."""
