"""The command line: a face of the lab, without logic of its own."""
