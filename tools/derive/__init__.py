"""Files that are derived from others: workflows, blueprints, texts, pictures of the help."""
