"""Who: users, organizations, groups, API keys and grants. Imports no other app."""
