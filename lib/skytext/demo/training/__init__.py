"""How the demonstration checkpoint was trained and is scored."""
