"""What comes out: numbers and labels, encoded for the loss, and predictions made of outputs."""
