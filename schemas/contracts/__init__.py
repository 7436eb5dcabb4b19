"""What a vendor's answers are promised to be, and every way in which they can differ. Pure: values in, findings out."""
