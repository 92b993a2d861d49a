"""Functions of tensors that know nothing of files, runs or plugins."""
