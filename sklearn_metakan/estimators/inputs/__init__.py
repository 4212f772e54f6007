"""What goes in: tables and images, checked, fitted, and as a network takes them."""
