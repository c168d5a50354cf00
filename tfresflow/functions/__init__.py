"""Pure functions of weights, with their derivatives, and steps of flows."""
