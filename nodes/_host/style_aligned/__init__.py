"""The hooks of shared attention, and its references."""
