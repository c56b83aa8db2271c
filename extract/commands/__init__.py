"""The commands of `extract`: they parse and print; each calls functions that a notebook could call as well."""
