"""Do the tests bite? Each listed breakage of the code must make the test it names fail."""
