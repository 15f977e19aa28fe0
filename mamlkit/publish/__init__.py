"""What runs the chapters, and shows them: notebooks, README, the site."""
