"""What a vendor's answer says about its limits; `reader` is the door."""
