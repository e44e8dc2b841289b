"""What other people recorded, as recordings of eifer."""
