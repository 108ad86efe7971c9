"""What comes from users and goes to them: arguments, files that anybody may have edited, names to be shown."""
