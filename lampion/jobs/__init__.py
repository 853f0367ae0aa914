"""What the `lampion` command runs: whole programs, from data to pictures. May import everything
below cli.
"""
