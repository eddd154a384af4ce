"""How the demo family was trained and is measured."""
