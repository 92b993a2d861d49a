"""What a method is: its interfaces, its options, and how plugins are found."""
