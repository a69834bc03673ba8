"""Files that exports copy as they are; every one of them is a valid, runnable input."""
