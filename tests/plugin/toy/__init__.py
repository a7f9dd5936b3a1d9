"""A plug-in package: one file for each kind of part that can be added from outside."""
