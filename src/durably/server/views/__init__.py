"""What the dashboard's pages show, each a value made of what the store maintains."""
