"""What: providers and their credentials, models, aliases, targets and prices."""
