"""Command-line helpers of the project; nothing here is imported by the node pack."""
