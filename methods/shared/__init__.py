"""What two or more papers really share."""
