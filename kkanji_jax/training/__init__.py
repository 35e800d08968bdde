"""What trains a network: the step, its state, the data that feeds it, the loop around it."""
