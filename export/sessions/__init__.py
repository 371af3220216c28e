"""Open exported files and prove which provider runs them."""
