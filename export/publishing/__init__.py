"""What a bundle holds, what it must be, and how it reaches the Hub."""
